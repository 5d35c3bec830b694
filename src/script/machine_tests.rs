use std::collections::BTreeMap;

use serde_json::json;

use super::*;

#[derive(Default)]
struct Shelf {
    values: BTreeMap<String, Json>,
    lines: Vec<String>,
    random: u64,
    ends: bool,
}

impl Host for Shelf {
    fn get(&mut self, attribute: &str, _element: Option<&str>) -> Result<Json, Stop> {
        if self.ends {
            return Err(Stop::End);
        }
        self.values
            .get(attribute)
            .cloned()
            .ok_or_else(|| Stop::Raise(Problem::new(Code::NotFound, format!("no {attribute}"))))
    }

    fn set(&mut self, attribute: &str, value: Json, _element: Option<&str>) -> Result<Json, Stop> {
        self.values.insert(attribute.to_owned(), value.clone());
        Ok(value)
    }

    fn ask(&mut self, questions: Vec<Asked>) -> Result<Vec<Json>, Stop> {
        Ok(questions.into_iter().map(|asked| asked.args).collect())
    }

    fn send(&mut self, event: &str, data: Json, _element: Option<&str>) -> Result<(), Stop> {
        self.lines.push(format!("{event} {data}"));
        Ok(())
    }

    fn find(&mut self, _: &str) -> Result<Json, Stop> {
        Ok(Json::Array(Vec::new()))
    }

    fn create(&mut self, _: &str, _: Json, _: Option<&str>) -> Result<Json, Stop> {
        Ok(Json::Null)
    }

    fn destroy(&mut self, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn stand(&mut self, _: &str, _: Option<&str>, inside: bool) -> Result<bool, Stop> {
        Ok(inside)
    }

    fn travel(&mut self, _: &str, _: Option<&str>) -> Result<(), Stop> {
        Ok(())
    }

    fn log(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn fact(&mut self, _subject: Subject, key: &str) -> Json {
        json!(key)
    }

    fn facts(&mut self, _subject: Subject) -> Json {
        json!({"a": 1})
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random << 32
    }
}

#[test]
fn a_script_reads_writes_and_answers_with_a_table() {
    let (ended, shelf) = run(
        "set('on', not get('on')); log('now', get('on'), {}); return { on = get('on'), list = {1, 2}, none = {} }",
    );

    assert_eq!(ended, Ended::Returned(Some(json!({"on": true, "list": [1, 2], "none": {}}))));
    assert_eq!(shelf.lines, ["now true table"]);
}

#[test]
fn what_a_script_answers_and_how_it_fails_is_told() {
    let table = [
        ("", Ended::Returned(None)),
        ("return false", Ended::Returned(Some(json!(false)))),
        ("return event.value", Ended::Returned(Some(json!("value")))),
        ("for k, v in event do return k end", Ended::Returned(Some(json!("a")))),
        ("refuse('not now')", Ended::Refused("not now".to_owned())),
        ("pcall(function() refuse('not now') end) return 1", Ended::Refused("not now".to_owned())),
        ("return ask_all({{'a', 'b', {c = 1}}})", Ended::Returned(Some(json!([{"c": 1}])))),
        ("local ok = pcall(get, 'nothing') return ok", Ended::Returned(Some(json!(false)))),
    ];
    for (source, want) in table {
        assert_eq!(run(source).0, want, "{source}");
    }
    let failures = [
        ("get('nothing')", "no nothing"),
        ("\nx = 1", "lamp.toggle, line 8: attempt to modify a readonly table"),
        ("string.x = 1", "lamp.toggle, line 7: attempt to modify a readonly table"),
        ("event.x = 1", "lamp.toggle, line 7: it can only be read"),
        ("return 0/0", "the answer: NaN is no value"),
        ("return function() end", "a function is no value"),
        ("return { 1, a = 2 }", "both numbered and named keys"),
        ("for k in pairs({[{}] = 1}) do end", "a table as a key has no order"),
        ("error('mine')", "mine"),
        ("refuse('')", "refuse needs a sentence"),
        ("require('x')", "attempt to call a nil value"),
        ("os.time()", "attempt to index nil"),
        ("return getfenv()", "attempt to call a nil value"),
    ];
    for (source, want) in failures {
        match run(source).0 {
            Ended::Failed(problem) => {
                assert!(problem.says.contains(want), "{source}: {}", problem.says)
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn hostile_scripts_end_and_leave_the_machine_usable() {
    let machine = machine();
    let hostile = [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() return f() end f()",
        "local function f() f() f() end f()",
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "string.rep('x', 1e9)",
        "buffer.create(1e9)",
        "local t = table.create(1e9)",
        "string.find(string.rep('a', 5000), string.rep('a?', 5000) .. string.rep('a', 5000))",
        "string.find(string.rep('a', 100000), '.-.-.-.-b')",
        "string.gsub(string.rep('a', 100000), '', function() while true do end end)",
        "table.sort(table.create(100000, 1), function() return true end) while true do end",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(s, k) return s[k] end return t.x",
        "while true do pcall(get, 'on') end",
        "while true do log('x') end",
    ];
    for source in hostile {
        let mut shelf = shelf();
        let (ended, _) = machine.run(script(source), &mut shelf, RUN_FUEL);
        assert!(!matches!(ended, Ended::Returned(_) | Ended::Refused(_)), "{source}: {ended:?}");
        machine.reset().unwrap();
        let (after, _) = machine.run(script("return 1 + 1"), &mut shelf, RUN_FUEL);
        assert_eq!(after, Ended::Returned(Some(json!(2))), "after {source}");
    }
}

#[test]
fn the_same_script_uses_the_same_fuel_in_a_fresh_and_a_used_machine() {
    let source = "local n = 0 for i = 1, 1000 do n = n + math.random(10) end return n";
    let used = machine();
    let first = used.run(script(source), &mut shelf(), RUN_FUEL);
    let again = used.run(script(source), &mut shelf(), RUN_FUEL);
    let fresh = machine().run(script(source), &mut shelf(), RUN_FUEL);

    assert_eq!(first, again);
    assert_eq!(first, fresh);
    assert!(first.1 > 0);
}

#[test]
fn the_end_of_the_step_cannot_be_caught() {
    let mut shelf = Shelf { ends: true, ..shelf() };

    let (ended, _) =
        machine().run(script("pcall(get, 'on') pcall(log, 'x') return 1"), &mut shelf, RUN_FUEL);

    assert_eq!(ended, Ended::Stopped);
    assert!(shelf.lines.is_empty());
}

#[test]
fn a_script_that_does_not_compile_is_shown_with_its_line() {
    let (line, says) = compile_error("local x = 1\nif x then\n").unwrap();

    assert_eq!(line, 3, "{says}");
    assert!(says.contains("end"), "{says}");
    assert_eq!(compile_error("return 1"), None);
}

fn run(source: &str) -> (Ended, Shelf) {
    let mut shelf = shelf();
    let (ended, _) = machine().run(script(source), &mut shelf, RUN_FUEL);
    (ended, shelf)
}

fn script(source: &str) -> Script<'_> {
    Script { source, name: "lamp.toggle", line: 7 }
}

fn shelf() -> Shelf {
    Shelf { values: BTreeMap::from([("on".to_owned(), json!(false))]), ..Shelf::default() }
}

/// A machine without a fuse: fuel alone must end every run.
fn machine() -> Machine {
    Machine::new(Arc::new(|_| false)).unwrap()
}
