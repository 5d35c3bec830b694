//! Values between Luau and JSON.

use mlua::{Lua, Table, Value};

use crate::model::Json;

/// How deep a script's table may be nested.
const DEPTH_MAX: usize = 20;
/// Bytes of text in one value that leaves a script.
const BYTES_MAX: usize = 64 * 1024;

/// Makes a Luau value of JSON. Null becomes nil.
pub(super) fn to_lua(lua: &Lua, json: &Json) -> mlua::Result<Value> {
    match json {
        Json::Null => Ok(Value::Nil),
        Json::Bool(value) => Ok(Value::Boolean(*value)),
        Json::Number(number) => Ok(Value::Number(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => lua.create_string(text).map(Value::String),
        Json::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in items.iter().enumerate() {
                table.raw_set(at + 1, to_lua(lua, item)?)?;
            }
            Ok(Value::Table(table))
        }
        Json::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (key, member) in members {
                table.raw_set(key.as_str(), to_lua(lua, member)?)?;
            }
            Ok(Value::Table(table))
        }
    }
}

/// Makes JSON of a Luau value. An empty table is an object, one with the keys 1 to n a list.
///
/// # Errors
/// Functions, NaN, infinity, mixed keys, text that is not UTF-8, and what is too large or deep.
pub(super) fn to_json(value: &Value) -> Result<Json, String> {
    let mut left = BYTES_MAX;
    convert(value, 0, &mut left)
}

fn convert(value: &Value, depth: usize, left: &mut usize) -> Result<Json, String> {
    *left = left.checked_sub(8).ok_or_else(too_large)?;
    match value {
        Value::Nil => Ok(Json::Null),
        Value::Boolean(value) => Ok(Json::Bool(*value)),
        Value::Integer(number) => Ok(Json::from(*number)),
        Value::Number(number) => number_to_json(*number),
        Value::String(text) => {
            let text = text.to_str().map_err(|_| "text is not UTF-8".to_owned())?;
            *left = left.checked_sub(text.len()).ok_or_else(too_large)?;
            Ok(Json::String(text.to_owned()))
        }
        Value::Table(table) if depth < DEPTH_MAX => table_to_json(table, depth, left),
        Value::Table(_) => Err(format!("a table is nested deeper than {DEPTH_MAX}")),
        other => Err(format!("a {} is no value", other.type_name())),
    }
}

fn too_large() -> String {
    format!("a value is larger than {BYTES_MAX} bytes")
}

fn number_to_json(number: f64) -> Result<Json, String> {
    const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Ok(Json::from(number as i64));
    }
    serde_json::Number::from_f64(number)
        .map(Json::Number)
        .ok_or_else(|| format!("{number} is no value"))
}

fn table_to_json(table: &Table, depth: usize, left: &mut usize) -> Result<Json, String> {
    let length = table.raw_len();
    if length > 0 {
        let mut items = Vec::with_capacity(length.min(1_024));
        for at in 1..=length {
            let item: Value = table.raw_get(at).map_err(|error| error.to_string())?;
            items.push(convert(&item, depth + 1, left)?);
        }
        let mut keys = 0;
        for pair in table.pairs::<Value, Value>() {
            pair.map_err(|error| error.to_string())?;
            keys += 1;
        }
        if keys != length {
            return Err("a table has both numbered and named keys".to_owned());
        }
        return Ok(Json::Array(items));
    }
    let mut members = serde_json::Map::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, member) = pair.map_err(|error| error.to_string())?;
        let Value::String(key) = key else {
            return Err(format!("a table has a {} as a key", key.type_name()));
        };
        let key = key.to_str().map_err(|_| "a key is not UTF-8".to_owned())?.to_owned();
        *left = left.checked_sub(key.len()).ok_or_else(too_large)?;
        members.insert(key, convert(&member, depth + 1, left)?);
    }
    Ok(Json::Object(members))
}
