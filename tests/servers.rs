//! Servers among each other: tickets, who is admitted and when, domains, servers that are removed,
//! what is put off or refused for good, new keys, recovery words and backups. Real nodes, nothing
//! shared but the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use freehold::model::{Name, ServerId, TicketText, hex};
use freehold::trust::{CHAIN_MAX, Inception, KeyPair, Record, RecordKind, Verified};
use serde_json::{Value as Json, json};
use support::{Node, done, furnish, path, refused, split, text, value};

/// What anyone may read of the attic's lamp.
const GET: &str = "element get alice@attic/garden/lamp count";
/// What anyone may call.
const STEP: &str = "action call alice@attic/garden/lamp step";
/// What only servers on the list may set.
const SWITCH: &str = "element set alice@attic/garden/lamp on true";
/// What anyone may read of the kitchen's lamp.
const GET_FAR: &str = "element get alice@kitchen/garden/lamp count";
/// Settings with which nobody calls before somebody has said yes.
const ASK: &str = "strangers = \"ask\"\n";
/// Stands in one value, and nowhere else.
const MARKER: &str = "zq7kvburiedw4";
/// Long ago.
const PAST: &str = "2020-01-01T00:00:00Z";
/// Far away.
const FUTURE: &str = "2999-01-01T00:00:00Z";

// Tickets.

#[test]
fn who_joins_with_a_ticket_is_allowed_and_on_its_list_at_once() {
    for settings in ["", ASK] {
        let attic = quiet("attic", settings, &[]);
        let kitchen = quiet("kitchen", "", &[]);
        furnish(&attic);
        let ticket = text(&done(&attic, "invite --list family"), "ticket");

        let joined = done(&kitchen, &format!("join {ticket}"));

        let told = ["name", "peer_id", "list", "state"].map(|key| joined[key].clone());
        let peer_id = attic.ready["peer_id"].clone();
        assert_eq!(told, [json!("attic"), peer_id, json!("family"), json!("active")]);
        for (node, other) in [(&attic, "kitchen"), (&kitchen, "attic")] {
            let state = |words: &str| done(node, &format!("{words} {other}"))["state"].clone();
            assert_eq!(state("server show"), "allowed", "{settings}{other}");
            assert_eq!(state("protection show family"), "active", "{settings}{other}");
            assert_eq!(done(node, "inbox --all")["items"], json!([]), "{settings}{other}");
        }
        assert_eq!(done(&kitchen, SWITCH)["value"], true);
    }
}

#[test]
fn a_ticket_is_for_one_server() {
    let attic = quiet("attic", "", &[]);
    let [kitchen, cellar] = ["kitchen", "cellar"].map(|name| quiet(name, "", &[]));
    furnish(&attic);
    let ticket = text(&done(&attic, "invite --list family"), "ticket");
    done(&kitchen, &format!("join {ticket}"));

    let problem = refused(&cellar, &format!("join {ticket}"), 5, "refused");

    assert_eq!(problem["detail"], "the ticket was used already");
    let first_peers = fs::read_to_string(cellar.home.join("bootstrap.toml")).unwrap_or_default();
    assert!(!first_peers.contains(&text(&attic.ready, "peer_id")), "{first_peers}");
    assert_eq!(done(&attic, "ticket ls")["items"][0]["used_by"], "kitchen");
    assert_eq!(done(&attic, "server show cellar")["state"], "pending");
    assert_eq!(done(&cellar, "server show attic")["state"], "pending");
    assert_eq!(items_of(&done(&attic, "protection ls"), "server"), ["kitchen"]);
    assert_eq!(done(&cellar, "protection ls")["items"], json!([]));
    refused(&cellar, SWITCH, 5, "not_listed");
    // The one that used it may do so again, and has what it had.
    assert_eq!(done(&kitchen, &format!("join {ticket}"))["state"], "active");
    assert_eq!(done(&kitchen, SWITCH)["value"], true);
}

#[test]
fn a_ticket_that_has_ended_or_was_revoked_lets_nobody_in() {
    let attic = quiet("attic", "", &[]);
    let kitchen = quiet("kitchen", "", &[]);
    let ended = done(&attic, "invite --list family --expires 1s");
    let revoked = done(&attic, "invite --list family");
    let id = text(&ended, "id");
    attic.until(&["ticket", "ls"], |listed| item(listed, &id)["state"] == "ended");
    done(&attic, &format!("ticket rm {}", text(&revoked, "id")));
    let table = [
        (ended, "the ticket has ended"),
        (revoked, "there is no such ticket here, or it was revoked"),
    ];

    for (made, says) in table {
        let ticket = text(&made, "ticket");

        let problem = refused(&kitchen, &format!("join {ticket}"), 5, "refused");

        assert_eq!(problem["detail"], says);
    }
    for (node, other) in [(&attic, "kitchen"), (&kitchen, "attic")] {
        assert_eq!(done(node, &format!("server show {other}"))["state"], "pending", "{other}");
        assert_eq!(done(node, "protection ls")["items"], json!([]), "{other}");
    }
}

#[test]
fn a_ticket_that_is_not_whole_is_none() {
    let attic = quiet("attic", "", &[]);
    let kitchen = quiet("kitchen", "", &[]);
    let ticket = text(&done(&attic, "invite --list family"), "ticket");
    let middle = ticket.len() / 2;
    let other = if &ticket[middle..=middle] == "x" { "y" } else { "x" };
    let altered = format!("{}{other}{}", &ticket[..middle], &ticket[middle + 1..]);

    for text in [altered.as_str(), &ticket[..middle], &ticket[..ticket.len() - 1], "fht_", "fh"] {
        for word in ["ticket show", "join"] {
            refused(&kitchen, &format!("{word} {text}"), 2, "usage");
        }
    }

    assert_eq!(done(&kitchen, "server ls")["items"], json!([]));
    done(&kitchen, &format!("join {ticket}"));
}

#[test]
fn a_ticket_of_another_network_joins_nothing() {
    let attic = quiet("attic", "", &[]);
    let mut office = home("office", "");
    office.file("bootstrap.toml", "[network]\nname = \"office\"\n");
    office.restart();
    let ticket = text(&done(&attic, "invite --list family"), "ticket");
    assert_eq!(done(&office, &format!("ticket show {ticket}"))["network"], "home");

    refused(&office, &format!("join {ticket}"), 3, "wrong_network");

    for node in [&attic, &office] {
        assert_eq!(done(node, "server ls")["items"], json!([]), "{}", node.name);
    }
    assert_eq!(done(&attic, "ticket ls")["items"][0]["state"], "open");
}

#[test]
fn a_ticket_from_before_a_new_key_is_void() {
    let mut attic = quiet("attic", "", &[]);
    let kitchen = quiet("kitchen", "", &[]);
    let void = text(&done(&attic, "invite --list family"), "ticket");
    assert_eq!(attic.stop(), 0);
    done(&attic, "rekey");
    attic.restart();

    refused(&kitchen, &format!("join {void}"), 3, "wrong_peer");

    assert_eq!(done(&kitchen, "server ls")["items"], json!([]));
    let ticket = text(&done(&attic, "invite --list family"), "ticket");
    assert_eq!(done(&kitchen, &format!("join {ticket}"))["state"], "active");
}

#[test]
fn a_ticket_says_whose_it_is_before_it_is_used() {
    let attic = quiet("attic", "", &[]);
    let kitchen = quiet("kitchen", "", &[]);
    let made = done(&attic, "invite --list family --expires 10m");

    let shown = done(&kitchen, &format!("ticket show {}", text(&made, "ticket")));

    let told = ["name", "peer_id", "network", "list", "ends_at"].map(|key| shown[key].clone());
    let (peer_id, ends_at) = (attic.ready["peer_id"].clone(), made["ends_at"].clone());
    assert_eq!(told, [json!("attic"), peer_id, json!("home"), json!("family"), ends_at]);
    let addresses = shown["addresses"].as_array().unwrap();
    assert!(addresses.iter().all(|address| !address.as_str().unwrap().contains("/p2p/")));
    assert_eq!(addresses.len(), attic.listen().len());
    assert_eq!(done(&kitchen, "server ls")["items"], json!([]));
    assert_eq!(done(&attic, "ticket ls")["items"][0]["state"], "open");
}

#[test]
fn tickets_are_listed_with_what_became_of_them() {
    let attic = quiet("attic", "", &[]);
    let kitchen = quiet("kitchen", "", &[]);
    let used = done(&attic, "invite --list family");
    let ended = done(&attic, "invite --expires 1s");
    let open = done(&attic, "invite");
    done(&kitchen, &format!("join {}", text(&used, "ticket")));
    let id = text(&ended, "id");
    attic.until(&["ticket", "ls"], |listed| item(listed, &id)["state"] == "ended");

    let listed = done(&attic, "ticket ls");

    let table = [
        (&used, "used", json!("family"), json!("kitchen")),
        (&ended, "ended", Json::Null, Json::Null),
        (&open, "open", Json::Null, Json::Null),
    ];
    assert_eq!(items_of(&listed, "id").len(), table.len());
    for (made, state, list, used_by) in table {
        let item = item(&listed, &text(made, "id"));
        let told = (&item["state"], &item["list"], &item["used_by"]);
        assert_eq!(told, (&json!(state), &list, &used_by), "{listed}");
        assert_eq!(item["used_at"].is_string(), state == "used", "{listed}");
        assert_eq!(item["ends_at"], made["ends_at"]);
    }
    // A part of an id is enough to name it.
    done(&attic, &format!("ticket rm {}", &text(&open, "id")[24..]));
    assert_eq!(items_of(&done(&attic, "ticket ls"), "state").len(), 2);
    refused(&attic, "ticket rm nosuch", 4, "not_found");
    for words in ["invite --expires 1ms", "invite --expires 31d", "invite --expires soon"] {
        refused(&attic, words, 2, "usage");
    }
    assert_eq!(items_of(&done(&attic, "ticket ls"), "state").len(), 2);
}

#[test]
fn a_ticket_for_people_comes_with_a_picture() {
    let attic = quiet("attic", "", &[]);
    let printed = |words: &[&str]| {
        let output = attic.program().args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    let for_people = printed(&["invite", "--list", "family"]);
    let for_programs = printed(&["invite", "--list", "family", "--json"]);

    assert!(for_people.contains("fht_"), "{for_people}");
    let drawn = for_people.lines().filter(|line| line.contains('\u{2588}')).count();
    assert!(drawn > 10, "{for_people}");
    assert_eq!(for_programs.lines().count(), 1, "{for_programs}");
    assert_eq!(printed(&["invite", "--quiet"]), "");
}

#[test]
fn the_secret_of_a_ticket_is_in_no_job_and_in_no_log() {
    let attic = quiet("attic", "", &[]);
    let [kitchen, cellar] = ["kitchen", "cellar"].map(|name| quiet(name, "", &[]));
    let ticket = text(&done(&attic, "invite --list family"), "ticket");
    let secret = hex(&TicketText::read(&ticket).unwrap().secret);
    assert_eq!(secret.len(), 32);
    done(&kitchen, &format!("join {ticket}"));
    refused(&cellar, &format!("join {ticket}"), 5, "refused");

    for (node, command) in
        [(&attic, "ticket.use"), (&kitchen, "ticket.present"), (&cellar, "ticket.present")]
    {
        let jobs = done(node, "job ls");

        assert!(items_of(&jobs, "command").contains(&command), "{}: {jobs}", node.name);
        let mut seen = format!("{jobs}{}", done(node, "ticket ls"));
        for id in items_of(&jobs, "id") {
            for word in ["show", "data"] {
                let said = node.say(&["job", word, id]);
                seen.push_str(&format!("{}{}", said.out, said.text));
            }
        }
        seen.push_str(&node.log());
        for kept in [&secret, &ticket] {
            assert!(!seen.contains(kept.as_str()), "{}: {seen}", node.name);
        }
    }
}

// Who is admitted.

#[test]
fn a_stranger_waits_in_the_inbox_once_until_somebody_decides() {
    let attic = quiet("attic", ASK, &[]);
    furnish(&attic);
    let table = [
        ("kitchen", "approve ENTRY", "allowed"),
        ("cellar", "deny ENTRY", "denied"),
        ("loft", "server allow loft", "allowed"),
        ("shed", "server deny shed", "denied"),
    ];

    for (name, words, state) in table {
        let mut stranger = quiet(name, "", &[&attic]);
        connected(&attic, name);
        connected(&stranger, "attic");
        for call in [GET, STEP, GET, STEP] {
            refused(&stranger, call, 5, "server_denied");
        }
        let entry = question(&attic);
        let told = (&entry["kind"], &entry["from"]["name"]);
        assert_eq!(told, (&json!("server"), &json!(name)), "{entry}");
        assert_eq!(done(&attic, &format!("server show {name}"))["state"], "pending");

        done(&attic, &words.replace("ENTRY", &text(&entry, "id")));

        for again in [false, true] {
            if again {
                assert_eq!(stranger.stop(), 0);
                stranger.restart();
                connected(&stranger, "attic");
            }
            assert_eq!(done(&attic, "inbox --all")["items"], json!([]), "{name}, {again}");
            assert_eq!(done(&attic, &format!("server show {name}"))["state"], state);
            for call in [GET, STEP] {
                let said = stranger.say(&split(call));
                let want =
                    if state == "allowed" { (0, Json::Null) } else { (5, json!("server_denied")) };
                assert_eq!((said.exit, said.err["code"].clone()), want, "{name}: {said:?}");
            }
        }
    }
}

#[test]
fn a_server_on_a_list_calls_without_being_admitted() {
    let [attic, kitchen] = kin(ASK);

    for call in [GET, STEP, SWITCH] {
        done(&kitchen, call);
    }

    assert_eq!(done(&attic, "server show kitchen")["state"], "pending");
    assert_eq!(question(&attic)["from"]["name"], "kitchen");
}

#[test]
fn a_server_that_was_taken_off_a_list_waits_to_be_admitted() {
    let [attic, kitchen] = kin(ASK);
    done(&kitchen, GET);

    done(&attic, "protection rm family kitchen");

    for call in [GET, STEP, SWITCH] {
        refused(&kitchen, call, 5, "server_denied");
    }
}

#[test]
fn the_servers_own_rules_admit_refuse_or_leave_it_to_the_operator() {
    let attic = quiet("attic", ASK, &[]);
    furnish(&attic);
    let own = own_element(&attic);
    publish(&attic, "server", GATEKEEPER);
    done(&attic, &format!("element become {own} gatekeeper --as server"));
    let rule = |friend: &str, foe: &str| {
        for (attribute, value) in [("friend", friend), ("foe", foe)] {
            done(&attic, &format!("element set {own} {attribute} {value} --as server"));
        }
    };
    let review = |name: &str| done(&attic, &format!("server review {name}"))["state"].clone();
    rule("kitchen", "cellar");

    let [kitchen, cellar, loft] =
        ["kitchen", "cellar", "loft"].map(|name| quiet(name, "", &[&attic]));

    for (node, state) in [(&kitchen, "allowed"), (&cellar, "denied"), (&loft, "pending")] {
        let show = ["server", "show", node.name.as_str()];
        attic.until(&show, |shown| shown["state"] == state);
        connected(node, "attic");
        if state == "allowed" {
            done(node, GET);
        } else {
            refused(node, GET, 5, "server_denied");
        }
    }
    assert_eq!(question(&attic)["from"]["name"], "loft");

    // What a rule does not speak of stays as it is.
    rule("nobody", "nobody");
    assert_eq!([review("kitchen"), review("cellar"), review("loft")], STATES);
    assert_eq!(question(&attic)["from"]["name"], "loft");
    // A rule that changed is asked only when somebody says so.
    rule("loft", "kitchen");
    done(&kitchen, GET);
    refused(&loft, GET, 5, "server_denied");
    assert_eq!((review("loft"), review("kitchen")), (json!("allowed"), json!("denied")));
    assert_eq!(done(&attic, "inbox --all")["items"], json!([]));
    done(&loft, GET);
    refused(&kitchen, GET, 5, "server_denied");
}

// When a server may call.

#[test]
fn a_server_calls_only_at_the_times_at_which_it_may() {
    let [attic, kitchen] = met(["attic", "kitchen"]);
    furnish(&attic);
    let every_minute = ["--cron", "* * * * *", "--lasts", "1h"];
    let table: [(&[&str], bool); 9] = [
        (&["--until", PAST], false),
        (&["--from", PAST], true),
        (&["--from", FUTURE], false),
        (&["--from", PAST, "--until", FUTURE], true),
        (&every_minute, true),
        (&["--cron", "0 0 29 2 *", "--lasts", "1m"], false),
        (&["--cron", "* * * * *", "--lasts", "1h", "--zone", "Europe/Berlin"], true),
        (&["--cron", "* * * * *", "--lasts", "1h", "--until", PAST], false),
        (&["--clear"], true),
    ];

    for (when, may) in table {
        attic.done(&with("server schedule kitchen", when));

        for call in [GET, STEP] {
            let said = kitchen.say(&split(call));
            let want = if may { (0, Json::Null) } else { (7, json!("outside_schedule")) };
            assert_eq!((said.exit, said.err["code"].clone()), want, "{when:?}: {said:?}");
        }
    }
    assert_eq!(done(&attic, "server show kitchen")["schedule"], Json::Null);
}

#[test]
fn a_schedule_that_makes_no_sense_changes_nothing() {
    let [attic, _kitchen] = met(["attic", "kitchen"]);
    let schedule = || done(&attic, "server show kitchen")["schedule"].clone();
    done(&attic, &format!("server schedule kitchen --from {PAST}"));
    let before = schedule();
    assert!(before.is_object(), "{before}");
    let table: [&[&str]; 9] = [
        &[],
        &["--cron", "* * * * *"],
        &["--lasts", "1h"],
        &["--cron", "now and then", "--lasts", "1h"],
        &["--cron", "61 * * * *", "--lasts", "1h"],
        &["--cron", "* * * * *", "--lasts", "1s"],
        &["--until", "yesterday"],
        &["--from", FUTURE, "--until", PAST],
        &["--from", PAST, "--zone", "Mars/Base"],
    ];

    for when in table {
        attic.refused(&with("server schedule kitchen", when), 2, "usage");
        assert_eq!(schedule(), before, "{when:?}");
    }
    refused(&attic, "server schedule nobody --clear", 4, "not_found");
}

// Domains.

#[test]
fn a_domain_is_a_claim_until_a_record_there_names_the_servers_key() {
    let names = NameServer::start();
    let attic = quiet("attic", &names.settings(), &[]);
    let kitchen = quiet("kitchen", "domain = \"kitchen.example\"\n", &[&attic]);
    let cellar = quiet("cellar", "", &[&attic]);
    for name in ["kitchen", "cellar"] {
        connected(&attic, name);
    }
    assert_eq!(domain_of(&attic, "kitchen"), (json!("kitchen.example"), false));
    assert_eq!(domain_of(&attic, "cellar"), (Json::Null, false));
    refused(&attic, "server confirm cellar", 2, "usage");
    // There is no such name at all.
    refused(&attic, "server confirm kitchen", 5, "refused");
    let right = record("kitchen.example", &kitchen);
    let wrong = [
        "nothing".to_owned(),
        record("kitchen.example", &cellar),
        right.replace("dnsaddr=", ""),
        format!("{right}x"),
    ];

    for text in wrong {
        names.say("_dnsaddr.kitchen.example", &text);
        refused(&attic, "server confirm kitchen", 5, "refused");
        assert_eq!(domain_of(&attic, "kitchen"), (json!("kitchen.example"), false), "{text}");
    }
    names.say("_dnsaddr.kitchen.example", "nothing");
    names.say("kitchen.example", &right);
    refused(&attic, "server confirm kitchen", 5, "refused");

    names.say("_dnsaddr.kitchen.example", &right);
    let confirmed = done(&attic, "server confirm kitchen");

    assert_eq!(confirmed["domain"], "kitchen.example");
    assert!(confirmed["confirmed_at"].is_string(), "{confirmed}");
    assert_eq!(domain_of(&attic, "kitchen"), (json!("kitchen.example"), true));
}

#[test]
fn a_domain_that_the_operator_noted_is_confirmed_like_one_that_is_claimed() {
    let names = NameServer::start();
    let attic = quiet("attic", &names.settings(), &[]);
    let cellar = quiet("cellar", "", &[&attic]);
    connected(&attic, "cellar");
    names.say("_dnsaddr.cellar.example", &record("cellar.example", &cellar));

    let noted = done(&attic, "server set cellar --domain Cellar.Example");

    assert_eq!((&noted["domain"], &noted["confirmed_at"]), (&json!("cellar.example"), &Json::Null));
    done(&attic, "server confirm cellar");
    assert_eq!(domain_of(&attic, "cellar"), (json!("cellar.example"), true));
    // Another one is not confirmed by that.
    done(&attic, "server set cellar --domain other.example");
    assert_eq!(domain_of(&attic, "cellar"), (json!("other.example"), false));
    refused(&attic, "server confirm cellar", 5, "refused");
    refused(&attic, "server set cellar --domain nodots", 2, "usage");
    assert_eq!(domain_of(&attic, "cellar"), (json!("other.example"), false));
    attic.done(&["server", "set", "cellar", "--domain", ""]);
    assert_eq!(domain_of(&attic, "cellar"), (Json::Null, false));
    refused(&attic, "server confirm nobody", 4, "not_found");
    refused(&attic, "server set cellar", 2, "usage");
}

#[test]
fn what_a_paused_server_tells_waits_with_it_and_what_it_asks_is_refused() {
    let [attic, kitchen] = kin("");
    comes_to_switch(&kitchen);
    done(&attic, "server pause kitchen");
    let before = value(&attic, "alice/garden/lamp on");
    assert_eq!(before, true);

    let late = "element set alice@attic/garden/lamp on false --timeout 1s";
    refused(&kitchen, late, 6, "outcome_unknown");
    let waiting = done(&kitchen, "element set alice@attic/garden/lamp on false --patient");

    assert_eq!(waiting["state"], "waiting");
    refused(&kitchen, "world show alice@attic/garden", 5, "server_denied");
    assert_eq!(value(&attic, "alice/garden/lamp on"), true);
    done(&attic, "server resume kitchen");
    attic.until(&["element", "get", "alice/garden/lamp", "on"], |read| read["value"] == false);
}

#[test]
fn a_patient_call_waits_for_as_long_as_its_server_is_away() {
    let [mut attic, mut kitchen] = kin("");
    comes_to_switch(&kitchen);
    assert_eq!(attic.stop(), 0);
    let patient = "element set alice@attic/garden/lamp on false --patient --timeout 1s";

    let waiting = done(&kitchen, patient);

    assert_eq!(waiting["state"], "waiting");
    let job = text(&waiting, "job");
    // Not even a restart ends it, and neither does the time that a call has.
    assert_eq!(kitchen.stop(), 0);
    kitchen.restart();
    assert_ne!(done(&kitchen, &format!("job show {job}"))["status"], "finished");
    attic.restart();
    let shown = kitchen.until(&["job", "show", &job], |job| job["status"] == "finished");
    assert_eq!(shown["outcome"], "done");
    assert_eq!(value(&attic, "alice/garden/lamp on"), false);
}

// Servers that are removed, denied, or not shown everything.

#[test]
fn a_server_that_is_removed_comes_again_as_a_stranger() {
    let [attic, mut kitchen] = kin("");
    done(&attic, "server allow kitchen");
    done(&attic, "token permit kitchen --as alice");
    done(&kitchen, SWITCH);
    let returns = || {
        let show = ["server", "show", "kitchen"];
        attic.until(&show, |shown| shown["connected"] == true && shown["state"] == "pending");
    };
    assert_eq!(kitchen.stop(), 0);

    let removed = done(&attic, "server rm kitchen");

    assert_eq!(
        (&removed["id"], &removed["name"]),
        (&kitchen.ready["server_id"], &json!("kitchen"))
    );
    assert_eq!(done(&attic, "server ls")["items"], json!([]));
    refused(&attic, "server show kitchen", 4, "not_found");
    assert_eq!(done(&attic, "protection ls")["items"][0]["state"], "dropped");
    assert_eq!(done(&attic, "token ls")["items"][0]["state"], "revoked");

    kitchen.restart();
    returns();
    listed(&attic, "kitchen", "dropped");
    listed(&kitchen, "attic", "dropped");
    done(&kitchen, GET);
    refused(&kitchen, SWITCH, 5, "not_listed");
    assert_eq!(done(&attic, "token ls")["items"][0]["state"], "revoked");

    // One that is there when it is removed comes back by itself, and may be put on the list anew.
    done(&attic, "server allow kitchen");
    done(&attic, "server rm kitchen");
    returns();
    list(&attic, &kitchen);
    done(&kitchen, SWITCH);
}

#[test]
fn a_server_that_is_denied_loses_its_place_on_lists_and_what_it_was_permitted() {
    let [attic, kitchen] = kin("");
    done(&attic, "token permit kitchen --as alice");
    done(&kitchen, SWITCH);

    let denied = done(&attic, "server deny kitchen");

    assert_eq!(denied["state"], "denied");
    for call in [GET, STEP, SWITCH] {
        refused(&kitchen, call, 5, "server_denied");
    }
    listed(&attic, "kitchen", "dropped");
    listed(&kitchen, "attic", "dropped");
    assert_eq!(done(&attic, "token ls")["items"][0]["state"], "revoked");

    // Who is allowed again is that, and no more.
    done(&attic, "server allow kitchen");
    done(&kitchen, GET);
    refused(&kitchen, SWITCH, 5, "not_listed");
    listed(&attic, "kitchen", "dropped");
    assert_eq!(done(&attic, "token ls")["items"][0]["state"], "revoked");
}

#[test]
fn who_was_taken_off_a_list_hears_no_more_of_what_is_for_it() {
    let [attic, kitchen] = kin("");
    publish(&attic, "alice", DIARY);
    done(&attic, "element create diary --name diary");
    let followed = kitchen.events(&["--world", "alice@attic/garden"]);
    let heard = |note: i64| {
        let is_so = |event: &Json| event["attribute"] == "note" && event["value"] == note;
        followed.so_far().iter().any(is_so)
    };
    // Following takes a moment to begin.
    attic.until(&split("element set diary note 1"), |_| heard(1));

    done(&attic, "protection rm family kitchen");
    listed(&kitchen, "attic", "dropped");
    done(&attic, "element set diary note 2");
    done(&attic, "element set diary cover 3");

    let get = split("element get alice@attic/garden/diary cover");
    kitchen.until(&get, |got| got["value"] == 3);
    assert!(!heard(2), "{:#?}", followed.so_far());
}

#[test]
fn what_is_switched_off_is_there_for_the_servers_on_the_list_alone() {
    let [attic, kitchen] = kin("");
    let cellar = quiet("cellar", "", &[&attic]);
    connected(&cellar, "attic");
    let table = [
        ("--off", true, json!([]), [false, false]),
        ("", false, json!([]), [true, true]),
        ("--action toggle --off", false, json!(["toggle"]), [false, true]),
        ("--action toggle", false, json!([]), [true, true]),
    ];

    for (how, off, actions_off, offered) in table {
        let switched = done(&attic, &format!("type switch lamp {how}"));

        assert_eq!((&switched["off"], &switched["actions_off"]), (&json!(off), &actions_off));
        for (action, offered) in ["toggle", "step"].into_iter().zip(offered) {
            for words in ["action call", "event send"] {
                let words = format!("{words} alice@attic/garden/lamp {action}");
                done(&kitchen, &words);
                let said = cellar.say(&split(&words));
                let want = if offered { (0, Json::Null) } else { (5, json!("not_offered")) };
                assert_eq!((said.exit, said.err["code"].clone()), want, "{how}: {words}");
            }
        }
        // It is about actions: values are read as ever.
        done(&cellar, GET);
    }
    refused(&attic, "type switch lamp --action nosuch --off", 4, "not_found");
}

// What waits in the inbox.

#[test]
fn what_is_put_off_is_hidden_for_as_long_as_was_said() {
    let [attic, kitchen] = met(["attic", "kitchen"]);
    done(&attic, "protection add family kitchen");
    let entry = text(&question(&kitchen), "id");

    let put_off = done(&kitchen, &format!("inbox later {entry} --after 1h"));

    assert_eq!((&put_off["id"], put_off["until"].is_string()), (&json!(entry), true));
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    for words in ["inbox --all", "inbox ls --all"] {
        assert_eq!(items_of(&done(&kitchen, words), "id"), [entry.as_str()], "{words}");
    }
    refused(&kitchen, &format!("inbox later {entry} --after soon"), 2, "wrong_kind");
    refused(&kitchen, "inbox later nosuch", 4, "not_found");

    done(&kitchen, &format!("inbox later {entry} --after 1s"));

    assert_eq!(question(&kitchen)["id"], entry.as_str());
    // One that is hidden is answered like any other.
    done(&kitchen, &format!("inbox later {entry}"));
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    done(&kitchen, &format!("approve {entry}"));
    listed(&attic, "kitchen", "active");
    assert_eq!(done(&kitchen, "inbox --all")["items"], json!([]));
}

#[test]
fn a_no_that_is_remembered_is_given_again_without_a_question() {
    let [attic, kitchen] = met(["attic", "kitchen"]);
    let asks = || assert_eq!(done(&attic, "protection add family kitchen")["state"], "asked");
    for how in ["", "--remember"] {
        asks();
        let entry = text(&question(&kitchen), "id");
        done(&kitchen, &format!("deny {entry} {how}"));
        listed(&attic, "kitchen", "denied");
    }

    for _ in 0..2 {
        asks();

        listed(&attic, "kitchen", "denied");
        assert_eq!(done(&kitchen, "inbox --all")["items"], json!([]));
    }

    // Who said no may ask itself.
    done(&kitchen, "protection add family attic");
    done(&attic, &format!("approve {}", text(&question(&attic), "id")));
    listed(&attic, "kitchen", "active");
    listed(&kitchen, "attic", "active");
}

// New keys.

#[test]
fn a_server_with_a_new_key_is_known_again_by_who_knew_it_and_met_by_who_did_not() {
    let [mut attic, mut kitchen] = kin("");
    let before = attic.ready.clone();
    assert_eq!(attic.stop(), 0);

    // Whoever knows the first one alone must come over the second to the third.
    done(&attic, "rekey");
    let rekeyed = done(&attic, "rekey");
    attic.restart();

    assert_eq!(attic.ready["server_id"], before["server_id"]);
    assert_eq!(attic.ready["peer_id"], rekeyed["peer_id"]);
    assert_ne!(attic.ready["peer_id"], before["peer_id"]);
    // The kitchen's bootstrap.toml names the first.
    comes_to_switch(&kitchen);
    listed(&attic, "kitchen", "active");
    listed(&kitchen, "attic", "active");
    let cellar = quiet("cellar", "", &[&attic]);
    connected(&cellar, "attic");
    for node in [&kitchen, &cellar] {
        let shown = done(node, "server show attic");
        let told = (&shown["id"], &shown["peer_id"]);
        assert_eq!(told, (&before["server_id"], &rekeyed["peer_id"]), "{}", node.name);
        done(node, GET);
    }
    assert_eq!(kitchen.stop(), 0);
    kitchen.restart();
    done(&kitchen, SWITCH);
}

#[test]
fn a_first_peer_with_a_new_key_is_found_again_after_a_restart_too() {
    let [mut attic, mut kitchen] = kin("");
    assert_eq!(attic.stop(), 0);
    done(&attic, "rekey");
    attic.restart();
    comes_to_switch(&kitchen);

    assert_eq!(kitchen.stop(), 0);
    kitchen.restart();

    // Nothing is asked of it: it is a first peer.
    connected(&kitchen, "attic");
}

#[test]
fn a_running_node_keeps_its_key() {
    let attic = quiet("attic", "", &[]);
    let words = attic.home.join("recovery.words");
    let before = keys_of(&attic);

    for words in ["rekey".to_owned(), format!("recover {}", path(&words))] {
        refused(&attic, &words, 8, "already_running");
    }

    assert_eq!(keys_of(&attic), before);
    assert_eq!(done(&attic, "id")["peer_id"], attic.ready["peer_id"]);
}

#[test]
fn recovery_words_give_a_new_key_once_and_new_words() {
    let [mut attic, kitchen] = kin("");
    let before = attic.ready.clone();
    let first = kept_words(&attic, "first");
    let words = fs::read_to_string(&first).unwrap();
    let (_, all_but_one) = words.split_once(' ').unwrap();
    let wrong = [
        "zoo zoo".to_owned(),
        String::new(),
        all_but_one.to_owned(),
        fs::read_to_string(kitchen.home.join("recovery.words")).unwrap(),
    ];
    assert_eq!(attic.stop(), 0);
    let keys = keys_of(&attic);

    for text in wrong {
        let file = attic.file("wrong", &text);
        attic.refused(&["recover", path(&file)], 5, "refused");
        assert_eq!(keys_of(&attic), keys, "{text}");
    }
    refused(&attic, "recover nosuch", 2, "usage");
    attic.restart();
    assert_eq!(attic.ready["peer_id"], before["peer_id"]);
    assert_eq!(attic.stop(), 0);

    let recovered = attic.done(&["recover", path(&first)]);

    let shown = recovered["recovery_words"].as_str().unwrap();
    assert_eq!(shown, path(&attic.home.join("recovery.words")));
    let second = kept_words(&attic, "second");
    assert_ne!(fs::read_to_string(&second).unwrap(), words);
    attic.refused(&["recover", path(&first)], 5, "refused");
    attic.restart();
    assert_eq!(attic.ready["server_id"], before["server_id"]);
    assert_eq!(attic.ready["peer_id"], recovered["peer_id"]);
    assert_ne!(attic.ready["peer_id"], before["peer_id"]);
    comes_to_switch(&kitchen);
    listed(&attic, "kitchen", "active");
    // The new words are worth what the old ones were.
    assert_eq!(attic.stop(), 0);
    attic.done(&["recover", path(&second)]);
    attic.restart();
    comes_to_switch(&kitchen);
}

#[test]
fn a_change_of_keys_that_was_cut_is_undone_or_finished() {
    let mut attic = quiet("attic", "", &[]);
    let first = attic.ready["peer_id"].clone();
    let words = kept_words(&attic, "words");
    let [key, recovery, next_key, next_words] =
        ["identity.key", "recovery.words", "identity.key.new", "recovery.words.new"]
            .map(|name| attic.home.join(name));
    assert_eq!(attic.stop(), 0);
    let before = keys_of(&attic);

    // Cut before the store knew of the next key.
    fs::write(&next_key, [7_u8; 32]).unwrap();
    fs::write(&next_words, "other words").unwrap();
    attic.restart();
    assert_eq!(attic.ready["peer_id"], first);
    assert_eq!(keys_of(&attic), before);

    // Cut after that.
    assert_eq!(attic.stop(), 0);
    let [kept_key, kept_recovery] = ["key.kept", "words.kept"].map(|name| attic.home.join(name));
    fs::copy(&key, &kept_key).unwrap();
    fs::copy(&recovery, &kept_recovery).unwrap();
    let recovered = attic.done(&["recover", path(&words)]);
    let after = keys_of(&attic);
    for (file, next, kept) in
        [(&key, &next_key, &kept_key), (&recovery, &next_words, &kept_recovery)]
    {
        fs::rename(file, next).unwrap();
        fs::copy(kept, file).unwrap();
    }
    attic.restart();
    assert_eq!(attic.ready["peer_id"], recovered["peer_id"]);
    assert_eq!(keys_of(&attic), after);
}

#[test]
fn a_next_key_that_was_not_written_to_its_end_is_none() {
    let mut attic = quiet("attic", "", &[]);
    let first = attic.ready["peer_id"].clone();
    assert_eq!(attic.stop(), 0);
    fs::write(attic.home.join("identity.key.new"), [7_u8; 10]).unwrap();

    attic.restart();

    assert_eq!(attic.ready["peer_id"], first);
}

#[test]
fn new_words_that_never_came_into_force_replace_nothing() {
    let mut attic = quiet("attic", "", &[]);
    let words = kept_words(&attic, "words");
    assert_eq!(attic.stop(), 0);
    // So it is left where new words were written, and the next key was not.
    fs::write(attic.home.join("recovery.words.new"), "other words").unwrap();

    done(&attic, "rekey");

    let recovery = fs::read_to_string(attic.home.join("recovery.words")).unwrap();
    assert!(recovery == fs::read_to_string(&words).unwrap());
    attic.done(&["recover", path(&words)]);
}

#[test]
fn what_the_recovery_words_sign_wins_over_whatever_a_stolen_key_has_signed() {
    let pair = |seed: u8| KeyPair::from_seed(&[seed; 32]);
    let hash = |seed: u8| *blake3::hash(&pair(seed).public()).as_bytes();
    let key = pair(1).public();
    let inception =
        Inception { kind: RecordKind::Server, key, recovery_hash: hash(9), nonce: [3; 16] };
    let first = Record::first(inception, Name::new("attic").unwrap(), None);
    // Its owner changed the key twice, and then used the words.
    let second = first.rotated(pair(2).public());
    let third = second.rotated(pair(3).public());
    let newest = third.recovered(pair(5).public(), hash(8), pair(9).public()).sign(&pair(9));
    let chain = [first.sign(&pair(1)), second.sign(&pair(1)), third.sign(&pair(2))];
    // Somebody has the first key.
    let stolen = first.rotated(pair(6).public());
    let table = [
        ("another key", stolen.clone()),
        ("a later number", Record { sequence: 50, ..stolen.clone() }),
        ("other words", Record { recovery_hash: hash(7), ..stolen.clone() }),
        ("a recovery that was none", Record { recoveries: 5, ..stolen }),
    ];

    let mut missed = Vec::new();
    for (what, record) in table {
        let shown = record.sign(&pair(1));
        for (who, seen) in [
            ("who knew the first record", Verified::following(&shown, &first)),
            ("who knew nothing", Verified::first_seen(&shown)),
        ] {
            // Whoever does not believe it has nothing to forget.
            let Ok(seen) = seen else { continue };
            if let Err(error) = Verified::by_chain(&chain, &newest, Some(seen.record())) {
                missed.push(format!("{what}, {who}: {error}"));
            }
        }
    }

    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_node_from_before_a_recovery_is_refused_by_who_knows_the_newer_record() {
    let [mut attic, kitchen] = kin("");
    furnish(&kitchen);
    let backup = back_up(&attic);
    let words = kept_words(&attic, "words");
    assert_eq!(attic.stop(), 0);
    let recovered = attic.done(&["recover", path(&words)]);
    attic.restart();
    comes_to_switch(&kitchen);
    assert_eq!(attic.stop(), 0);

    let mut old = restored(&attic, &backup);

    assert_eq!(old.ready["server_id"], attic.ready["server_id"]);
    assert_ne!(old.ready["peer_id"], attic.ready["peer_id"]);
    refused(&kitchen, &format!("{GET} --timeout 3s"), 3, "peer_unreachable");
    let said = old.say(&split(&format!("{GET_FAR} --timeout 3s")));
    assert!([3, 6].contains(&said.exit), "{said:?}");
    let shown = done(&kitchen, "server show attic");
    let told = (&shown["peer_id"], &shown["connected"]);
    assert_eq!(told, (&recovered["peer_id"], &json!(false)));

    // The one with the newer record is taken for what it is, as before.
    assert_eq!(old.stop(), 0);
    attic.restart();
    done(&attic, GET_FAR);
    done(&kitchen, GET);
}

#[test]
fn an_account_with_a_new_key_is_who_it_was_to_those_who_knew_it_and_those_who_did_not() {
    let attic = with_alice();
    let kitchen = quiet("kitchen", "", &[&attic]);
    let cellar = quiet("cellar", "", &[&attic]);
    connected(&attic, "kitchen");
    connected(&attic, "cellar");
    let first = done(&attic, "account show alice");
    let known = done(&attic, "visit start kitchen --as alice");
    assert_eq!(done(&kitchen, "account show alice@attic")["key"], first["key"]);

    done(&attic, "account rekey alice");
    let rekeyed = done(&attic, "account rekey alice");

    let now = done(&attic, "account show alice");
    assert_eq!((&now["id"], &now["key"]), (&first["id"], &rekeyed["key"]));
    assert_ne!(now["key"], first["key"]);
    let again = done(&attic, "visit start kitchen --as alice");
    assert_eq!((&again["id"], &again["name"]), (&known["id"], &known["name"]));
    // What the user has shown is newer than the copy that the kitchen keeps.
    let copy = done(&kitchen, "account show alice@attic");
    assert_eq!((&copy["key"], &copy["cached"]), (&rekeyed["key"], &json!(true)));
    assert_eq!(done(&attic, "visit start cellar --as alice")["id"], first["id"]);
    assert_eq!(done(&cellar, "account show alice@attic")["key"], rekeyed["key"]);
}

#[test]
fn an_account_changes_its_key_only_as_often_as_others_can_follow() {
    let mut attic = with_alice();
    let words = kept_words(&attic, "words");
    for _ in 0..CHAIN_MAX - 1 {
        done(&attic, "account rekey alice");
    }
    let last = done(&attic, "account show alice");

    refused(&attic, "account rekey alice", 7, "over_limit");
    refused(&attic, "account rekey nobody", 4, "not_found");
    refused(&attic, &format!("account rekey {}", text(&attic.ready, "server_id")), 8, "conflict");

    assert_eq!(done(&attic, "account show alice")["key"], last["key"]);
    // The words begin the count anew.
    assert_eq!(attic.stop(), 0);
    assert_eq!(attic.done(&["recover", path(&words)])["accounts"], 1);
    attic.restart();
    done(&attic, "account rekey alice");
    let _kitchen = quiet("kitchen", "", &[&attic]);
    connected(&attic, "kitchen");
    done(&attic, "visit start kitchen --as alice");
}

#[test]
fn an_old_record_of_an_account_never_wins_until_the_recovery_words_sign_a_newer_one() {
    let mut attic = with_alice();
    let kitchen = quiet("kitchen", "", &[&attic]);
    connected(&attic, "kitchen");
    let words = kept_words(&attic, "words");
    let backup = back_up(&attic);
    // As whoever has stolen the key would do.
    let stolen = done(&attic, "account rekey alice");
    done(&attic, "visit start kitchen --as alice");
    assert_eq!(done(&kitchen, "account show alice@attic")["key"], stolen["key"]);
    assert_eq!(attic.stop(), 0);
    let mut old = restored(&attic, &backup);
    connected(&old, "kitchen");

    refused(&old, "visit start kitchen --as alice", 5, "refused");
    assert_eq!(done(&kitchen, "account show alice@attic")["key"], stolen["key"]);

    assert_eq!(old.stop(), 0);
    assert_eq!(old.done(&["recover", path(&words)])["accounts"], 1);
    old.restart();
    connected(&old, "kitchen");
    done(&old, "visit start kitchen --as alice");
    let own = done(&old, "account show alice");
    assert_ne!(own["key"], stolen["key"]);
    assert_eq!(done(&kitchen, "account show alice@attic")["key"], own["key"]);
}

// Backups.

#[test]
fn a_backup_of_a_running_node_becomes_the_same_server_again() {
    let [mut attic, kitchen] = kin("");
    furnish(&kitchen);
    done(&attic, &format!("element set alice/garden/lamp secret {MARKER}"));
    let count = |node: &Node| value(node, "alice/garden/lamp count").as_i64().unwrap();
    let first_step = ["element", "get", "alice/garden/lamp", "count"];
    assert_eq!(steps_far(&attic, 2), [1, 2]);

    let (backup, counted) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            for _ in 0..20 {
                done(&kitchen, STEP);
            }
        });
        attic.until(&first_step, |read| read["value"].as_i64() > Some(0));
        let before = count(&attic);
        let backup = back_up(&attic);
        let counted = before..=count(&attic);
        calls.join().unwrap();
        (backup, counted)
    });
    assert_eq!(count(&attic), 20);
    // What comes after it is not in it.
    assert_eq!(steps_far(&attic, 2), [3, 4]);
    done(&attic, "account add bob");
    assert_eq!(attic.stop(), 0);

    let back = restored(&attic, &backup);

    for key in ["server_id", "peer_id"] {
        assert_eq!(back.ready[key], attic.ready[key], "{key}");
    }
    for name in ["identity.key", "recovery.words", "freehold.toml"] {
        let [was, is] = [&attic, &back].map(|node| fs::read(node.home.join(name)).unwrap());
        assert!(was == is, "{name}");
    }
    assert_eq!(items_of(&done(&back, "account ls"), "name"), ["alice"]);
    assert_eq!(items_of(&done(&back, "element ls"), "name"), ["lamp"]);
    assert_eq!(value(&back, "alice/garden/lamp secret"), MARKER);
    listed(&back, "kitchen", "active");
    let held = count(&back);
    assert!(counted.contains(&held), "{held}, not in {counted:?}");

    // The numbers that its calls had are given again, by another life: each is run.
    assert_eq!(steps_far(&back, 3), [5, 6, 7]);
    for number in 1..=3 {
        assert_eq!(done(&kitchen, STEP)["result"]["count"], held + number);
    }
    comes_to_switch(&kitchen);
    for node in [&back, &kitchen] {
        node.until(&["status"], |status| status["jobs"] == 0);
    }
}

#[test]
fn a_backup_overwrites_nothing_and_is_put_back_over_nothing() {
    let mut attic = quiet("attic", "", &[]);
    let backup = back_up(&attic);
    let (again, back) = (format!("backup {}", path(&backup)), format!("restore {}", path(&backup)));
    let before = fs::read(&backup).unwrap();

    refused(&attic, &again, 8, "conflict");
    refused(&attic, "backup nosuch/file", 2, "usage");
    refused(&attic, &back, 8, "already_running");
    assert_eq!(attic.stop(), 0);
    refused(&attic, &back, 8, "conflict");

    assert!(fs::read(&backup).unwrap() == before);
    let was = attic.ready["peer_id"].clone();
    attic.restart();
    assert_eq!(attic.ready["peer_id"], was);
}

#[test]
fn what_is_no_whole_backup_is_refused_and_leaves_nothing() {
    let mut attic = quiet("attic", "", &[]);
    furnish(&attic);
    done(&attic, &format!("element set alice/garden/lamp secret {MARKER}"));
    let whole = fs::read(back_up(&attic)).unwrap();
    assert_eq!(attic.stop(), 0);
    let marked = whole.windows(MARKER.len()).enumerate();
    let places: Vec<usize> =
        marked.filter(|(_, bytes)| *bytes == MARKER.as_bytes()).map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    let mut flipped = whole.clone();
    for place in places {
        flipped[place] ^= 1;
    }
    let mut empty = Node::home("attic");
    let bad = empty.home.with_extension("bad");
    let restore = format!("restore {}", path(&bad));
    let table = [
        ("a text", b"there are no rows in here".repeat(1_000)),
        ("nothing", Vec::new()),
        ("its beginning", whole[..8_192].to_vec()),
        ("a flipped bit in a row", flipped),
    ];

    for (what, bytes) in table {
        fs::write(&bad, bytes).unwrap();

        let said = empty.say(&split(&restore));

        assert_ne!(said.exit, 0, "{what}: {said:?}");
        for name in ["home.redb", "identity.key", "home.mark"] {
            assert!(!empty.home.join(name).exists(), "{what} left {name}");
        }
        if what.contains("flipped") {
            assert_eq!((said.exit, said.err["code"].as_str()), (1, Some("damaged")), "{said:?}");
        }
    }
    refused(&empty, "restore nosuch", 2, "usage");

    // Nothing of that keeps the whole one from being put back.
    fs::write(&bad, whole).unwrap();
    done(&empty, &restore);
    empty.ready = attic.ready.clone();
    empty.restart();
    assert_eq!(empty.ready["server_id"], attic.ready["server_id"]);
    assert_eq!(value(&empty, "alice/garden/lamp secret"), MARKER);
}

// What the tests stand on.

/// Rules of a server about others, by their names.
const GATEKEEPER: &str = r#"
name = "gatekeeper"
parents = ["server:server"]

[attributes.friend]
kind = "string"
default = ""

[attributes.foe]
kind = "string"
default = ""

[actions.admit]
on = "before:is_server_allowed"
script = '''
if event.name == get("foe") then
  refuse("not that one")
end
if event.name == get("friend") then
  return true
end
'''
"#;

/// A note for the servers on the list, in a cover for everyone.
const DIARY: &str = r#"
name = "diary"
protected = "family"

[attributes.note]
kind = "integer"
default = 0
read = "protected"

[attributes.cover]
kind = "integer"
default = 0
read = "public"
"#;

/// What became of the kitchen, the cellar and the loft.
const STATES: [&str; 3] = ["allowed", "denied", "pending"];

/// A home with settings, on which no node runs yet. Nobody finds it by chance.
fn home(name: &str, settings: &str) -> Node {
    let node = Node::home(name);
    fs::create_dir_all(&node.home).unwrap();
    fs::write(node.home.join("freehold.toml"), format!("mdns = false\n{settings}")).unwrap();
    node
}

/// A node with settings, and first peers or none.
fn quiet(name: &str, settings: &str, peers: &[&Node]) -> Node {
    let mut node = home(name, settings);
    node.write_bootstrap(peers);
    node.restart();
    node
}

/// A node with an account, and nothing else.
fn with_alice() -> Node {
    let attic = quiet("attic", "", &[]);
    done(&attic, "account add alice");
    attic
}

/// Waits until a node is connected with another.
fn connected(node: &Node, other: &str) {
    node.until(&["server", "show", other], |shown| shown["connected"] == true);
}

/// Two servers that have met each other.
fn met(names: [&str; 2]) -> [Node; 2] {
    let first = quiet(names[0], "", &[]);
    let second = quiet(names[1], "", &[&first]);
    connected(&first, names[1]);
    connected(&second, names[0]);
    [first, second]
}

/// The attic with alice's lamp, and the kitchen, which is on its list.
fn kin(settings: &str) -> [Node; 2] {
    let attic = quiet("attic", settings, &[]);
    let kitchen = quiet("kitchen", "", &[&attic]);
    connected(&attic, "kitchen");
    connected(&kitchen, "attic");
    furnish(&attic);
    list(&attic, &kitchen);
    [attic, kitchen]
}

/// Puts two servers on each other's list.
fn list(attic: &Node, other: &Node) {
    done(attic, &format!("protection add family {}", other.name));
    done(other, &format!("approve {}", text(&question(other), "id")));
    listed(attic, &other.name, "active");
}

/// Waits until another server stands on a node's list in a state.
fn listed(node: &Node, other: &str, state: &str) {
    node.until(&["protection", "show", "family", other], |row| row["state"] == state);
}

/// Waits until the kitchen may set what is for the servers on the list.
fn comes_to_switch(kitchen: &Node) {
    kitchen.until(&split(&format!("{SWITCH} --timeout 5s")), |set| set["value"] == true);
}

/// Steps the kitchen's lamp from the attic, and gives back what it counted.
fn steps_far(attic: &Node, times: usize) -> Vec<i64> {
    let step = "action call alice@kitchen/garden/lamp step";
    (0..times).map(|_| done(attic, step)["result"]["count"].as_i64().unwrap()).collect()
}

/// The files with a node's keys.
fn keys_of(node: &Node) -> [Option<Vec<u8>>; 4] {
    ["identity.key", "identity.key.new", "recovery.words", "recovery.words.new"]
        .map(|name| fs::read(node.home.join(name)).ok())
}

/// A copy of a node's recovery words, taken away from its home.
fn kept_words(node: &Node, name: &str) -> PathBuf {
    node.file(name, &fs::read_to_string(node.home.join("recovery.words")).unwrap())
}

/// A backup of a node, beside its home.
fn back_up(node: &Node) -> PathBuf {
    let file = node.home.with_extension("backup");
    let made = done(node, &format!("backup {}", path(&file)));
    assert!(made["rows"].as_u64() > Some(0), "{made}");
    file
}

/// A node on a home of its own that was made from a backup. It listens where the other did.
fn restored(of: &Node, backup: &Path) -> Node {
    let mut node = Node::home(&of.name);
    done(&node, &format!("restore {}", path(backup)));
    node.ready = of.ready.clone();
    node.restart();
    node
}

/// A name server on loopback that knows texts alone.
struct NameServer {
    port: u16,
    texts: Arc<Mutex<BTreeMap<String, String>>>,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let texts: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let known = texts.clone();
        std::thread::spawn(move || {
            let mut packet = [0_u8; 1_500];
            while let Ok((length, asker)) = socket.recv_from(&mut packet) {
                let answer = answer_to(&packet[..length], &known.lock().unwrap());
                // Who asked may have gone.
                socket.send_to(&answer, asker).ok();
            }
        });
        Self { port, texts }
    }

    /// Settings with which a node asks it.
    fn settings(&self) -> String {
        format!("resolver = \"127.0.0.1:{}\"\n", self.port)
    }

    /// Lets it say a text under a name.
    fn say(&self, name: &str, text: &str) {
        self.texts.lock().unwrap().insert(name.to_owned(), text.to_owned());
    }
}

/// The answer to a question for a text (RFC 1035): what is known under the name, or that there is no such
/// name.
fn answer_to(question: &[u8], texts: &BTreeMap<String, String>) -> Vec<u8> {
    let mut at = 12_usize;
    let mut labels: Vec<String> = Vec::new();
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    let text = texts.get(&labels.join("."));
    let mut answer = question[..2].to_vec();
    let (code, answers) = if text.is_some() { (0, 1) } else { (3, 0) };
    answer.extend_from_slice(&[0x84, code, 0, 1, 0, answers, 0, 0, 0, 0]);
    // The question again: the name's end, its kind and its class are five bytes.
    answer.extend_from_slice(&question[12..at + 5]);
    let Some(text) = text else { return answer };
    let length = u8::try_from(text.len()).unwrap();
    // The name by its place, TXT, the internet, five seconds, and how long the rest is.
    answer.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 5, 0, length + 1, length]);
    answer.extend_from_slice(text.as_bytes());
    answer
}

/// The record with which a domain names a node's key.
fn record(domain: &str, node: &Node) -> String {
    format!("dnsaddr=/dns4/{domain}/tcp/4750/p2p/{}", text(&node.ready, "peer_id"))
}

/// The domain of a server as a node shows it, and whether it is confirmed.
fn domain_of(node: &Node, name: &str) -> (Json, bool) {
    let shown = done(node, &format!("server show {name}"));
    (shown["domain"].clone(), !shown["confirmed_at"].is_null())
}

/// The id of the element that stands for the node's own server.
fn own_element(node: &Node) -> String {
    let us: ServerId = serde_json::from_value(node.ready["server_id"].clone()).unwrap();
    us.element().to_string()
}

/// Publishes a type that must be good.
fn publish(node: &Node, who: &str, text: &str) {
    let file = node.file("published.toml", text);
    node.done(&["type", "publish", path(&file), "--as", who]);
}

/// The only entry of the inbox, once it is there.
fn question(node: &Node) -> Json {
    let one = |inbox: &Json| inbox["items"].as_array().is_some_and(|items| items.len() == 1);
    node.until(&["inbox"], one)["items"][0].clone()
}

/// What is listed under an id; null where nothing is.
fn item<'l>(listed: &'l Json, id: &str) -> &'l Json {
    let items = listed["items"].as_array().unwrap();
    items.iter().find(|item| item["id"] == id).unwrap_or(&Json::Null)
}

fn items_of<'l>(listed: &'l Json, key: &str) -> Vec<&'l str> {
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    items.iter().filter_map(|item| item[key].as_str()).collect()
}

/// Words, and more that may hold spaces.
fn with<'w>(words: &'w str, more: &[&'w str]) -> Vec<&'w str> {
    words.split_whitespace().chain(more.iter().copied()).collect()
}
