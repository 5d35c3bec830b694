//! Freehold: a peer-to-peer node for worlds you own.

pub mod model;

pub mod catalog;

pub mod trust;
