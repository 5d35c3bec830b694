//! Keys for programs: shown once, stored as hashes.

use std::sync::Arc;

use serde_json::json;

use crate::model::{
    ApiKey, Code, Damaged, Json, Key, KeyId, Problem, Row, Snapshot, Timestamp, name_key,
    parse_duration_ms,
};
use crate::step::{Halt, Step};

/// What every key begins with, so that it is known when it is found somewhere.
const KEY_PREFIX: &str = "fh_";
/// Keys for programs at most.
const KEYS_MAX: usize = 1_000;

/// What of a key is stored.
pub fn hash_of_key(key: &str) -> [u8; 32] {
    blake3::derive_key("freehold 1 api key", key.as_bytes())
}

/// The stored key that a program showed, if it is valid at `now`.
///
/// # Errors
/// A row is damaged.
pub fn authenticate(
    snapshot: &dyn Snapshot,
    key: &str,
    now: Timestamp,
) -> Result<Option<Arc<ApiKey>>, Damaged> {
    let hash = hash_of_key(key);
    let first = Key::ApiKey(KeyId::from_bytes([0; 16]));
    let rows = snapshot.rows(&first, &Key::ApiKey(KeyId::from_bytes([0xff; 16])), KEYS_MAX)?;
    Ok(rows.into_iter().find_map(|(_, row)| match row {
        // The hashes are compared, not the keys: timing tells nothing about a key.
        Row::ApiKey(held) if held.hash == hash && held.expires_at.is_none_or(|end| now < end) => {
            Some(held)
        }
        _ => None,
    }))
}

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let name = step.name(step.word("name"))?;
    let mut accounts = Vec::new();
    for account in step.arg("account").as_array().into_iter().flatten().filter_map(Json::as_str) {
        accounts.push(step.account_here(account)?.id);
    }
    let expires_at = match step.text("expires") {
        None => None,
        Some(text) => {
            let ms = parse_duration_ms(text).ok_or_else(|| {
                Problem::new(Code::WrongKind, format!("'{text}' is no span of time"))
                    .hint("write 30d, 24h or 10m")
            })?;
            Some(step.now.after_ms(ms))
        }
    };
    let keys = all(step)?;
    if keys.iter().any(|held| held.name.key() == name.key()) {
        return Err(
            Problem::new(Code::NameTaken, format!("there is a key '{name}' already")).into()
        );
    }
    if keys.len() >= KEYS_MAX {
        return Err(
            Problem::new(Code::Conflict, format!("there are {KEYS_MAX} keys already")).into()
        );
    }
    let secret: [u8; 32] = step.random();
    let key = format!("{KEY_PREFIX}{}", bs58::encode(secret).into_string());
    let id = KeyId::at(step.now, step.random());
    let held = ApiKey {
        id,
        name: name.clone(),
        hash: hash_of_key(&key),
        accounts,
        admin: step.arg("admin").as_bool().unwrap_or(false),
        expires_at,
        added_at: step.now,
    };
    step.put(Key::ApiKey(id), Row::ApiKey(Arc::new(held)))?;
    Ok(json!({"id": id, "name": name, "key": key}))
}

fn all(step: &Step<'_>) -> Result<Vec<Arc<ApiKey>>, Halt> {
    let first = Key::ApiKey(KeyId::from_bytes([0; 16]));
    let rows = step.stored().rows(&first, &Key::ApiKey(KeyId::from_bytes([0xff; 16])), KEYS_MAX)?;
    let keys = rows.into_iter().filter_map(|(_, row)| match row {
        Row::ApiKey(held) => Some(held),
        _ => None,
    });
    Ok(keys.collect())
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    super::page::list(
        step,
        |id| Key::ApiKey(KeyId::from_bytes(id)),
        |row| match row {
            Row::ApiKey(held) => Some(json!({
                "id": held.id,
                "name": held.name,
                "accounts": held.accounts,
                "admin": held.admin,
                "expires_at": held.expires_at.map(|at| at.to_string()),
            })),
            _ => None,
        },
    )
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let text = name_key(step.word("key"));
    let named =
        all(step)?.into_iter().find(|held| held.name.key() == text || held.id.to_string() == text);
    let held = match named {
        Some(held) => held,
        None => {
            step.only_part(all(step)?, &text, |held| held.id.to_string())?.ok_or_else(|| {
                Problem::new(Code::NotFound, format!("there is no key '{text}'"))
                    .hint("see them with: freehold key ls")
            })?
        }
    };
    step.change(Key::ApiKey(held.id), None)?;
    Ok(json!({"id": held.id}))
}
