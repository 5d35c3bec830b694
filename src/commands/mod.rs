//! What each command does, one file a family. The table joins the catalog's names to functions.

mod account;
mod action;
mod element;
mod element_type;
mod feed;
mod inbox;
mod job;
mod key;
mod page;
mod protection;
mod server;
mod world;

pub use job::{find_job, job_json};
pub use key::{authenticate, hash_of_key};

use crate::step::Command;

/// The function of a command; none for those that the node carries out itself.
pub fn find(name: &str) -> Option<Command> {
    let command: Command = match name {
        "account.add" => account::add,
        "account.ls" => account::ls,
        "account.show" => account::show,
        "account.rm" => account::rm,
        "world.add" => world::add,
        "world.ls" => world::ls,
        "world.show" => world::show,
        "world.rm" => world::rm,
        "type.publish" => element_type::publish,
        "type.ls" => element_type::ls,
        "type.show" => element_type::show,
        "element.create" => element::create,
        "element.ls" => element::ls,
        "element.show" => element::show,
        "element.get" => element::get,
        "element.set" => element::set,
        "element.destroy" => element::destroy,
        "action.ls" => action::ls,
        "action.show" => action::show,
        "action.call" => action::call,
        "action.ask" => action::ask,
        "event.send" => action::send,
        "job.ls" => job::ls,
        "job.show" => job::show,
        "job.data" => job::data,
        "job.cancel" => job::cancel,
        "inbox.ls" => inbox::ls,
        "inbox.approve" => inbox::approve,
        "inbox.deny" => inbox::deny,
        "server.ls" => server::ls,
        "server.show" => server::show,
        "server.set" => server::set,
        "server.allow" => server::allow,
        "server.deny" => server::deny,
        "server.pause" => server::pause,
        "server.resume" => server::resume,
        "server.limit" => server::limit,
        "server.met" => server::met,
        "protection.add" => protection::add,
        "protection.ls" => protection::ls,
        "protection.show" => protection::show,
        "protection.rm" => protection::rm,
        "protection.offer" => protection::offer,
        "protection.accept" => protection::accept,
        "protection.refuse" => protection::refuse,
        "feed.pull" => feed::pull,
        "feed.store" => feed::store,
        "key.add" => key::add,
        "key.ls" => key::ls,
        "key.rm" => key::rm,
        _ => return None,
    };
    Some(command)
}

#[cfg(test)]
mod tests {
    use crate::catalog::{COMMANDS, Mode};

    #[test]
    fn every_command_of_the_catalog_is_carried_out_by_one_room() {
        for command in COMMANDS {
            let here = super::find(command.name).is_some();
            assert_eq!(here, command.mode != Mode::Node, "{}", command.name);
        }
    }
}
