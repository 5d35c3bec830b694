//! Limits on work: a root and everything that follows from it share one budget of depth, events,
//! script time and events sent in a row.

use freehold::model::{Budget, Code, Json, Outcome, Problem};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Ended, Home, Rows, bare, differences, holds, on_a_machine};

/// Rounds of a loop in which a script does nothing; each costs at least one unit of fuel.
const ROUNDS: u64 = 1_000;
/// Units of fuel that a round, and what is around it, costs at most.
const ROUND_MAX: u64 = 3;

#[test]
fn elements_that_set_each_other_in_a_circle_are_ended_with_their_path() {
    holds(24, circles, bare, a_circle_is_ended);
}

#[test]
fn elements_that_set_each_other_afterwards_use_up_their_events() {
    holds(24, rounds, bare, a_round_is_ended);
}

#[test]
fn sixty_four_events_may_happen_inside_each_other_and_no_more() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        let down = "if event.value > 0 then set('n', event.value - 1) end";
        home.publish(&counter(&before_n(down)));
        home.create("counter", "it");

        home.done("element.set", set_n("it", 63));
        let before = home.rows();
        let deeper = home.say("element.set", set_n("it", 64));

        assert_eq!(home.value("it", "n"), json!(63));
        assert_budget(&deeper.problem(), "deeper than 64");
        assert_eq!(differences(&before, &home.rows()), [""; 0]);
    });
}

#[test]
fn a_root_may_fire_as_many_events_as_its_budget_says() {
    holds(24, || 0..40_u32, counting, events_are_counted);
}

#[test]
fn a_full_budget_is_ten_thousand_events_a_second_and_sixteen_in_a_row() {
    assert_eq!(Budget::FULL, Budget { events: 10_000, fuel: 40_000_000, hops: 16 });
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        counting(&mut home);
        let before = home.rows();

        // The sent event itself is one of them.
        let ended = home.say("event.send", sent("it", "times", &json!({"times": 10_000})));

        assert_budget(&ended.problem(), "more events than it may");
        assert_eq!(differences(&before, &home.rows()), [""; 0]);
    });
}

#[test]
fn runs_one_after_another_share_the_fuel_of_their_root() {
    holds(24, || (0..12_u64, 500..30_000_u64), burning, fuel_is_shared);
}

#[test]
fn a_run_inside_a_run_has_only_the_fuel_that_is_left() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        let down =
            format!("{}\nif event.value > 0 then set('n', event.value - 1) end", idle(ROUNDS));
        home.publish(&counter(&before_n(&down)));
        home.create("counter", "it");
        let before = home.rows();
        let mut call = home.call("element.set", set_n("it", 20));
        call.root.budget.fuel = 5 * ROUNDS;

        let ended = home.run(vec![call]).remove(0);

        // 21 runs burn four times as much as there is.
        assert_budget(&problem_of(ended, "fuel was burnt that was not there"), "");
        assert_eq!(differences(&before, &home.rows()), [""; 0]);
    });
}

#[test]
fn what_is_sent_has_only_the_fuel_that_is_left() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        let again = format!("{}\nset('n', get('n') + 1)\nsend('again')", idle(ROUNDS));
        home.publish(&counter(&on_event("again", &again)));
        home.create("counter", "it");
        let mut call = home.call("event.send", sent("it", "again", &json!({})));
        call.root.budget.fuel = 3 * ROUNDS;

        home.run(vec![call]);

        let runs = home.value("it", "n").as_u64().unwrap_or_default();
        assert!(runs <= 3, "{runs} runs burnt {ROUNDS} each, and there were only three times that");
    });
}

#[test]
fn everything_that_is_sent_shares_the_events_of_its_root() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        let fork = "set('n', get('n') + 1)\nsend('fork')\nsend('fork')";
        home.publish(&counter(&on_event("fork", fork)));
        home.create("counter", "it");
        let mut call = home.call("event.send", sent("it", "fork", &json!({})));
        call.root.budget = Budget { events: 20, hops: 5, ..Budget::FULL };

        home.run(vec![call]);

        // Each run fires two: the event that was sent, and the change of a value.
        let runs = home.value("it", "n").as_u64().unwrap_or_default();
        assert!(runs <= 10, "{runs} runs fired two events each, and there were only twenty");
    });
}

#[test]
fn a_script_that_sends_to_itself_ends_when_its_hops_are_used_up() {
    holds(24, || 0..=16_u8, sending, hops_are_used_up);
}

fn circles() -> impl Strategy<Value = (usize, &'static str)> {
    let pass = vec![
        "set('n', event.value + 1, get('next'))",
        // What ends the whole step cannot be caught.
        "pcall(set, 'n', event.value + 1, get('next'))",
        "while true do pcall(set, 'n', event.value + 1, get('next')) end",
    ];
    (1..6_usize, prop::sample::select(pass))
}

fn rounds() -> impl Strategy<Value = (usize, u32)> {
    (1..6_usize, 1..200_u32)
}

fn a_circle_is_ended(mut home: Home<'_>, (size, pass): (usize, &'static str)) {
    home.publish(&counter(&before_n(pass)));
    ring(&mut home, size);
    let before = home.rows();

    let ended = home.say("element.set", set_n("r0", 1));

    let problem = ended.problem();
    assert_budget(&problem, "events are nested deeper than 64: counter.act@");
    for number in 0..size {
        let id = home.id(&format!("r{number}"));
        assert!(problem.says.contains(&id.to_string()), "r{number} {id}: {problem:?}");
    }
    assert_eq!(differences(&before, &home.rows()), [""; 0]);
}

fn a_round_is_ended(mut home: Home<'_>, (size, events): (usize, u32)) {
    let pass = "set('n', event.value + 1, get('next'))";
    home.publish(&counter(&action("after:value_change", "attribute = \"n\"\n", pass)));
    ring(&mut home, size);
    let before = home.rows();
    let mut call = home.call("element.set", set_n("r0", 1));
    call.root.budget.events = events;

    let ended = home.run(vec![call]).remove(0);

    // Those who ran last are named: they go round.
    let problem = ended.problem();
    assert_budget(&problem, "more events than it may");
    assert_budget(&problem, "counter.act@");
    assert_eq!(differences(&before, &home.rows()), [""; 0]);
}

fn events_are_counted(home: Home<'_>, times: u32) {
    let before = home.rows();
    let fired = |events: u32| -> (Ended, Rows) {
        let mut home = home.copy();
        let mut call = home.call("event.send", sent("it", "times", &json!({"times": times})));
        call.root.budget.events = events;
        (home.run(vec![call]).remove(0), home.rows())
    };

    // The sent event itself is one of them.
    let (enough, _) = fired(times + 1);
    let (short, after) = fired(times);

    enough.answer();
    assert_budget(&short.problem(), "more events than it may");
    assert_eq!(differences(&before, &after), [""; 0]);
}

fn fuel_is_shared(mut home: Home<'_>, (times, fuel): (u64, u64)) {
    let before = home.rows();
    let mut call = home.call("event.send", sent("it", "times", &json!({"times": times})));
    call.root.budget.fuel = fuel;

    let ended = home.run(vec![call]).remove(0);

    if times * ROUNDS > fuel {
        assert_budget(&problem_of(ended, "fuel was burnt that was not there"), "");
        assert_eq!(differences(&before, &home.rows()), [""; 0]);
    } else if (times + 1) * ROUNDS * ROUND_MAX < fuel {
        ended.answer();
        assert_eq!(home.value("other", "n").as_u64().unwrap_or_default(), times);
    }
}

fn hops_are_used_up(mut home: Home<'_>, hops: u8) {
    let before = home.rows();
    let mut call = home.call("event.send", sent("it", "again", &json!({})));
    call.root.budget.hops = hops;

    let ended = home.run(vec![call]).remove(0);

    // Who has none left cannot send, and is undone.
    assert_eq!(ended.result.is_ok(), hops > 0, "{ended:?}");
    assert_eq!(home.value("it", "n").as_u64().unwrap_or_default(), u64::from(hops));
    let jobs = home.jobs();
    assert_eq!(jobs.len(), usize::from(hops));
    let failed = jobs.iter().filter(|job| job.outcome() == Some(Outcome::Failed));
    assert_eq!(failed.count(), usize::from(hops > 0));
    for job in &jobs {
        if let Some(Err(problem)) = job.result() {
            assert_budget(&problem, "more events in a row");
        }
    }
    if hops == 0 {
        assert_budget(&ended.problem(), "more events in a row");
        assert_eq!(differences(&before, &home.rows()), [""; 0]);
    }
}

fn assert_budget(problem: &Problem, says: &str) {
    assert_eq!(problem.code, Code::ScriptBudget, "{problem:?}");
    assert!(problem.says.contains(says), "{problem:?}");
}

/// Why a call failed that must not be done.
fn problem_of(ended: Ended, why: &str) -> Problem {
    match ended.result {
        Ok(answer) => panic!("{why}: {answer}"),
        Err(problem) => problem,
    }
}

fn counting(home: &mut Home<'_>) {
    let times = "for number = 1, event.times do set('n', number) end";
    home.publish(&counter(&on_event("times", times)));
    home.create("counter", "it");
}

/// Each time another element burns fuel before its value is written.
fn burning(home: &mut Home<'_>) {
    let times = "for number = 1, event.times do set('n', number, 'other') end";
    home.publish(&counter(&on_event("times", times)));
    home.publish(&counter(&before_n(&idle(ROUNDS))).replace("\"counter\"", "\"burner\""));
    home.create("counter", "it");
    home.create("burner", "other");
}

fn sending(home: &mut Home<'_>) {
    let again = "set('n', get('n') + 1)\nsend('again')";
    home.publish(&counter(&on_event("again", again)));
    home.create("counter", "it");
}

/// Elements `r0`, `r1` and so on, each of which hands on to the next one, and the last to the first.
fn ring(home: &mut Home<'_>, size: usize) {
    for number in 0..size {
        home.create("counter", &format!("r{number}"));
    }
    for number in 0..size {
        let (element, next) = (format!("r{number}"), format!("r{}", (number + 1) % size));
        let args = json!({"element": element, "attribute": "next", "value": next});
        home.done("element.set", args);
    }
}

fn set_n(element: &str, value: i64) -> Json {
    json!({"element": element, "attribute": "n", "value": value})
}

fn sent(element: &str, event: &str, data: &Json) -> Json {
    json!({"element": element, "event": event, "data": data})
}

/// A script that does nothing for a while.
fn idle(rounds: u64) -> String {
    format!("for _ = 1, {rounds} do end")
}

fn counter(action: &str) -> String {
    format!(
        "name = \"counter\"\n\n\
         [attributes.n]\nkind = \"integer\"\ndefault = 0\n\n\
         [attributes.next]\nkind = \"string\"\ndefault = \"\"\n{action}"
    )
}

fn before_n(script: &str) -> String {
    action("before:value_change", "attribute = \"n\"\n", script)
}

fn on_event(event: &str, script: &str) -> String {
    action(&format!("event:{event}"), "", script)
}

fn action(on: &str, more: &str, script: &str) -> String {
    format!("\n[actions.act]\non = \"{on}\"\n{more}script = '''\n{script}\n'''\n")
}
