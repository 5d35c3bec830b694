//! What each command does, one file a family. The table joins the catalog's names to functions.

mod account;
mod action;
mod avatar;
mod element;
mod element_life;
mod element_select;
mod element_type;
mod event;
mod feed;
mod group;
mod inbox;
mod job;
mod key;
mod look;
mod moving;
mod page;
mod protection;
mod record;
mod server;
mod set;
mod share;
mod system;
mod ticket;
mod timer;
mod token;
mod visit;
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
        "account.rekey" => account::rekey,
        "world.add" => world::add,
        "world.ls" => world::ls,
        "world.show" => world::show,
        "world.rm" => world::rm,
        "type.publish" => element_type::publish,
        "type.ls" => element_type::ls,
        "type.show" => element_type::show,
        "element.create" => element_life::create,
        "element.ls" => element_select::ls,
        "element.show" => element::show,
        "element.get" => element::get,
        "element.set" => element::set,
        "element.destroy" => element_life::destroy,
        "element.give" => element_life::give,
        "element.switch" => element_life::switch,
        "element.become" => element_life::become_type,
        "set.add" => set::add,
        "set.ls" => set::ls,
        "set.show" => set::show,
        "set.rm" => set::rm,
        "set.enter" => set::enter,
        "set.leave" => set::leave,
        "set.child" => set::child,
        "set.link" => set::link,
        "set.push" => set::push,
        "set.pop" => set::pop,
        "set.shift" => set::shift,
        "set.unshift" => set::unshift,
        "set.union" => set::union,
        "set.intersection" => set::intersection,
        "set.difference" => set::difference,
        "set.symmetric_difference" => set::symmetric_difference,
        "set.mutual" => set::mutual,
        "set.change" => set::change,
        "group.add" => group::add,
        "group.ls" => group::ls,
        "group.show" => group::show,
        "group.member" => group::member,
        "group.rm" => group::rm,
        "type.retire" => element_type::retire,
        "timer.ls" => timer::ls,
        "timer.rm" => timer::rm,
        "event.ls" => event::ls,
        "action.ls" => action::ls,
        "action.show" => action::show,
        "action.call" => action::call,
        "action.ask" => action::ask,
        "event.send" => event::send,
        "event.broadcast" => event::broadcast,
        "event.failed" => event::failed,
        "event.started" => system::start_one,
        "event.define" => event::define,
        "node.started" => system::started,
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
        "server.schedule" => server::schedule,
        "server.rm" => server::rm,
        "server.review" => server::review,
        "server.confirmed" => server::confirmed,
        "ticket.make" => ticket::make,
        "ticket.ls" => ticket::ls,
        "ticket.rm" => ticket::rm,
        "ticket.present" => ticket::present,
        "ticket.use" => ticket::used,
        "inbox.later" => inbox::later,
        "type.switch" => element_type::switch,
        "protection.add" => protection::add,
        "protection.ls" => protection::ls,
        "protection.show" => protection::show,
        "protection.rm" => protection::rm,
        "protection.offer" => protection::offer,
        "protection.accept" => protection::accept,
        "protection.refuse" => protection::refuse,
        "type.share" => share::share,
        "type.unshare" => share::unshare,
        "type.receive" => share::receive,
        "type.held" => share::held,
        "type.forget" => share::forget,
        "type.ask" => share::ask,
        "action.run" => share::run,
        "action.decide" => share::decide,
        "element.share" => share::share_element,
        "element.unshare" => share::unshare_element,
        "element.receive" => share::receive_element,
        "element.forget" => share::forget_element,
        "element.gone" => share::gone,
        "element.move" => moving::start,
        "element.reclaim" => moving::reclaim,
        "element.take" => moving::take,
        "element.drop" => moving::put,
        "element.held" => moving::held,
        "transfer.ls" => moving::ls,
        "move.piece" => moving::piece,
        "move.offer" => moving::offer,
        "move.accepted" => moving::accepted,
        "move.refused" => moving::refused,
        "move.cancel" => moving::cancelled,
        "move.acknowledged" => moving::acknowledged,
        "move.reclaimed" => moving::reclaimed,
        "move.claim" => moving::claimed,
        "move.unknown" => moving::unknown,
        "move.send" => moving::send,
        "move.settled" => moving::settled,
        "move.went" => moving::went,
        "world.enter" => avatar::enter,
        "world.leave" => avatar::leave,
        "world.look" => look::look,
        "avatar.become" => avatar::become_type,
        "avatar.ls" => look::whereabouts,
        "avatar.enter" => avatar::let_in,
        "avatar.leave" => avatar::let_out,
        "avatar.placed" => avatar::placed,
        "avatar.gone" => avatar::put_out,
        "avatar.away" => avatar::away,
        "avatar.back" => avatar::back,
        "token.ls" => token::ls,
        "token.show" => token::show,
        "token.permit" => token::permit,
        "token.revoke" => token::revoke,
        "token.ask" => token::ask,
        "token.mint" => token::mint,
        "token.drop" => token::dropped,
        "token.state" => visit::state,
        "visit.start" => visit::start,
        "visit.end" => visit::end,
        "visit.ls" => visit::ls,
        "visit.register" => visit::register,
        "visit.leave" => visit::leave,
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
