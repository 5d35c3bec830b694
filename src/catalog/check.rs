//! Whether the arguments of a call are what its command takes.

use serde_json::Map;

use super::{Arg, ArgKind, Command};
use crate::model::{Code, Json, Problem, depth_of, suggest};

/// How deep arguments may be nested: an attribute's 16 and what is around it.
const DEPTH_MAX: usize = 20;
/// The longest text argument that is no value and no file, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Checks names, kinds and sizes of a call's arguments.
///
/// # Errors
/// `unknown_field`, `wrong_kind`, `usage` or `too_deep`, with a hint.
pub fn check_args(command: &Command, args: &Json) -> Result<(), Problem> {
    let Json::Object(given) = args else {
        return Err(Problem::new(Code::WrongKind, "the arguments must be an object"));
    };
    if depth_of(args) > DEPTH_MAX {
        return Err(Problem::new(
            Code::TooDeep,
            format!("the arguments are nested deeper than {DEPTH_MAX}"),
        ));
    }
    for name in given.keys() {
        if !command.args.iter().any(|arg| arg.name == name) {
            return Err(unknown(command, name));
        }
    }
    for arg in command.args {
        check_arg(command, arg, given)?;
    }
    Ok(())
}

fn unknown(command: &Command, name: &str) -> Problem {
    let names: Vec<&str> = command.args.iter().map(|arg| arg.name).collect();
    let problem =
        Problem::new(Code::UnknownField, format!("{} has no field '{name}'", command.name));
    match suggest(name, names.iter().copied()) {
        Some(meant) => problem.hint(format!("did you mean '{meant}'?")),
        None if names.is_empty() => problem.hint("it takes no fields"),
        None => problem.hint(format!("it takes: {}", names.join(", "))),
    }
}

fn check_arg(command: &Command, arg: &Arg, given: &Map<String, Json>) -> Result<(), Problem> {
    let Some(value) =
        given.get(arg.name).filter(|value| !value.is_null() || arg.kind == ArgKind::Value)
    else {
        if arg.required {
            let says = format!("{} needs '{}': {}", command.name, arg.name, arg.about);
            return Err(Problem::new(Code::Usage, says));
        }
        return Ok(());
    };
    let expected = match arg.kind {
        ArgKind::Text => {
            value.as_str().is_none_or(|text| text.len() > TEXT_BYTES_MAX).then_some("a short text")
        }
        ArgKind::Duration | ArgKind::File => (!value.is_string()).then_some("text"),
        ArgKind::Texts => {
            let texts = value.as_array().is_some_and(|items| items.iter().all(Json::is_string));
            (!texts).then_some("a list of texts")
        }
        ArgKind::Value => None,
        ArgKind::Object => (!value.is_object()).then_some("an object"),
        ArgKind::Flag => (!value.is_boolean()).then_some("true or false"),
        ArgKind::Count => (!value.is_u64()).then_some("a whole number from 0"),
    };
    match expected {
        Some(expected) => {
            let says = format!("{}: '{}' must be {expected}", command.name, arg.name);
            Err(Problem::new(Code::WrongKind, says))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bad_arguments_are_named_with_a_hint() {
        let command = crate::catalog::find("element.get").unwrap();
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let table = [
            (json!([]), Code::WrongKind),
            (json!({"element": "lamp"}), Code::Usage),
            (json!({"element": 3, "attribute": "on"}), Code::WrongKind),
            (json!({"elment": "lamp", "attribute": "on"}), Code::UnknownField),
            (json!({"element": deep, "attribute": "on"}), Code::TooDeep),
        ];
        for (args, code) in table {
            assert_eq!(check_args(command, &args).unwrap_err().code, code, "{args}");
        }
        let hint = check_args(command, &json!({"elment": "x"})).unwrap_err().hint;
        assert_eq!(hint.as_deref(), Some("did you mean 'element'?"));
    }
}
