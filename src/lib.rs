//! Freehold: a peer-to-peer node for worlds you own.

pub mod model;

pub mod catalog;

pub mod wire;

pub mod trust;

pub mod script;

pub mod step;

pub mod commands;

pub mod turn;

pub mod post;

pub mod store;
