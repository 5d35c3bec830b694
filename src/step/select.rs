//! Elements are found: by the small language of selections, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::index::{by_value, index_bytes, of_type};
use super::system::stands_for_world;
use super::{Actor, Halt, Step};
use crate::model::{
    AccountId, Code, Element, ElementId, EventKind, Expr, Json, Key, On, Problem, Selection, Test,
    TypeDefinition, TypeId, WorldId, fits_pattern, hex, name_key, unhex,
};

/// Elements that one operation selects at most.
pub const SELECTED_MAX: usize = 10_000;
/// Rows that are looked at for one page at most; what is beyond comes with the next.
const LOOKED_MAX: usize = 20_000;
/// Rows that are read at a time.
const CHUNK: usize = 256;

/// Where the candidates of a selection come from.
enum Source {
    /// Every element of the world.
    World,
    /// The elements of a type.
    Type(TypeId),
    /// The elements of a type with a value between two of an indexed attribute.
    Value(TypeId, String, [u8; 16], [u8; 16]),
    /// The members of a set.
    Set(ElementId),
}

/// A candidate, and what a page that ends after it begins the next with.
type Candidate = (ElementId, String);

impl Step<'_> {
    /// One page of the elements of a world that a selection picks, after `cursor`.
    ///
    /// # Errors
    /// The selection or the cursor has a mistake, or a name in it stands for nothing.
    pub fn select(
        &mut self,
        actor: Actor,
        world: WorldId,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Halt> {
        Query::parse(self, actor, world, text)?.page(self, cursor, limit)
    }

    /// Every element of a world that a selection picks.
    ///
    /// # Errors
    /// As [`Step::select`]; they are more than one operation may concern.
    pub fn select_all(
        &mut self,
        actor: Actor,
        world: WorldId,
        text: &str,
    ) -> Result<BTreeSet<ElementId>, Halt> {
        let query = Query::parse(self, actor, world, text)?;
        let mut found = BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = query.page(self, cursor.as_deref(), SELECTED_MAX)?;
            found.extend(page.found.iter().map(|element| element.id));
            check_count(found.len())?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(found),
            }
        }
    }
}

/// Checks that an operation concerns no more elements than it may.
///
/// # Errors
/// It concerns more.
pub fn check_count(count: usize) -> Result<(), Halt> {
    if count > SELECTED_MAX {
        let says = format!("one operation concerns at most {SELECTED_MAX} elements");
        return Err(Problem::new(Code::OverLimit, says).hint("select fewer at a time").into());
    }
    Ok(())
}

/// A selection in a world, with what its names stand for.
struct Query {
    actor: Actor,
    world: WorldId,
    expr: Expr,
    source: Source,
    /// Whether no type is asked for.
    of_any_type: bool,
}

/// A page of what was selected.
#[derive(Clone, Debug)]
pub struct Page {
    /// The elements.
    pub found: Vec<Arc<Element>>,
    /// Where the next page begins, if there may be more.
    pub next: Option<String>,
}

impl Query {
    fn parse(step: &Step<'_>, actor: Actor, world: WorldId, text: &str) -> Result<Self, Halt> {
        let selection = Selection::parse(text).map_err(|mistake| {
            Problem::new(Code::Usage, format!("the selection: {mistake}"))
                .with("line", mistake.line)
                .with("column", mistake.column)
                .with("expected", mistake.expected.clone())
                .hint("write it like: type = lamp and on = true and charge >= 5")
        })?;
        let source = source(step, world, &selection)?;
        let of_any_type = selection.required_type().is_none();
        Ok(Self { actor, world, expr: selection.0, source, of_any_type })
    }

    /// One page of what is selected, after `cursor`.
    fn page(&self, step: &mut Step<'_>, cursor: Option<&str>, limit: usize) -> Result<Page, Halt> {
        let mut found = Vec::new();
        let mut cursor = cursor.map(str::to_owned);
        let mut looked = 0;
        loop {
            let candidates = self.candidates(step, cursor.as_deref())?;
            let is_last = candidates.len() < CHUNK;
            for (id, place) in candidates {
                if found.len() >= limit || looked >= LOOKED_MAX {
                    return Ok(Page { found, next: cursor });
                }
                cursor = Some(place);
                looked += 1;
                let Some(element) = step.stored().element(self.world, id)? else { continue };
                if self.of_any_type && stands_for_world(&element) {
                    // It is found by its type; among the things of a world it is none.
                    continue;
                }
                let element_type = step.type_of(element.type_id)?;
                if may_see(step, self.actor, &element, &element_type)?
                    && picks(step, self.actor, &self.expr, &element, &element_type)?
                {
                    found.push(element);
                }
            }
            if is_last {
                return Ok(Page { found, next: None });
            }
        }
    }

    fn candidates(&self, step: &Step<'_>, cursor: Option<&str>) -> Result<Vec<Candidate>, Halt> {
        match &self.source {
            Source::World => {
                let after = cursor.map(element_of).transpose()?;
                let first = after.map_or([0; 16], |id| {
                    u128::from_be_bytes(*id.as_bytes()).saturating_add(1).to_be_bytes()
                });
                let key = |bytes| Key::Element(self.world, ElementId::from_bytes(bytes));
                ids(step, &key(first), &key([0xff; 16]))
            }
            Source::Type(id) => {
                let after = cursor.map(element_of).transpose()?;
                let (first, last) = of_type(*id, self.world, after);
                ids(step, &first, &last)
            }
            Source::Value(id, attribute, low, high) => {
                let after = cursor.map(value_place).transpose()?;
                let (first, last) = by_value(*id, attribute, self.world, (*low, *high), after);
                ids(step, &first, &last)
            }
            Source::Set(definer) => {
                let Some(set) = step.stored().set(self.world, *definer)? else {
                    return Ok(Vec::new());
                };
                let after = cursor.map(set_place).transpose()?;
                let members = step.members(&set, after, CHUNK)?;
                Ok(members.into_iter().map(|(place, id)| (id, format!("{place}:{id}"))).collect())
            }
        }
    }
}

fn strange_cursor() -> Halt {
    Problem::new(Code::Usage, "the cursor is none of ours, or of another selection")
        .hint("take `next` of the page before")
        .into()
}

fn element_of(cursor: &str) -> Result<ElementId, Halt> {
    cursor.parse().map_err(|_| strange_cursor())
}

fn set_place(cursor: &str) -> Result<(u64, ElementId), Halt> {
    let parts = cursor.split_once(':');
    parts
        .and_then(|(place, id)| Some((place.parse().ok()?, id.parse().ok()?)))
        .ok_or_else(strange_cursor)
}

fn value_place(cursor: &str) -> Result<([u8; 16], ElementId), Halt> {
    let parts = cursor.split_once(':');
    parts
        .and_then(|(value, id)| Some((unhex(value)?.try_into().ok()?, id.parse().ok()?)))
        .ok_or_else(strange_cursor)
}

/// The elements behind a range of keys, as many as are read at a time.
fn ids(step: &Step<'_>, first: &Key, last: &Key) -> Result<Vec<Candidate>, Halt> {
    let rows = step.stored().rows(first, last, CHUNK)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, _)| match key {
            Key::Element(_, id) | Key::ElementOf(_, _, id) => Some((id, id.to_string())),
            Key::ByValue(_, _, _, value, id) => Some((id, format!("{}:{id}", hex(&value)))),
            _ => None,
        })
        .collect())
}

/// The narrowest source whose candidates hold everything that is selected.
fn source(step: &Step<'_>, world: WorldId, selection: &Selection) -> Result<Source, Halt> {
    let Some(name) = selection.required_type() else {
        return Ok(match selection.required_set() {
            Some(set) => Source::Set(step.element_here(set)?.id),
            None => Source::World,
        });
    };
    let element_type = step.element_type(name, owner_of(step, world)?)?;
    let child = |bytes| Key::TypeChild(element_type.id, TypeId::from_bytes(bytes));
    if !step.stored().rows(&child([0; 16]), &child([0xff; 16]), 1)?.is_empty() {
        // Elements of its children are of this type too, and stand elsewhere in the index.
        return Ok(Source::World);
    }
    let attributes = &element_type.definition.attributes;
    // What a filter lets a reader see stands in no index.
    let filter = On::Before(EventKind::ValueChangeFiltered);
    let indexed = |name: &str| {
        attributes.get(name).is_some_and(|attribute| attribute.index)
            && element_type.definition.listeners(&filter, Some(name)).next().is_none()
    };
    if let Some((attribute, value)) = selection.required_value()
        && indexed(attribute)
        && let Some(bytes) = index_bytes(value)
    {
        return Ok(Source::Value(element_type.id, attribute.to_owned(), bytes, bytes));
    }
    if let Some((attribute, test)) = selection.required_range()
        && indexed(attribute)
        && let Some((low, high)) = ends(test)
    {
        return Ok(Source::Value(element_type.id, attribute.to_owned(), low, high));
    }
    Ok(Source::Type(element_type.id))
}

/// Who owns a world: a bare name of a type may be one of theirs.
fn owner_of(step: &Step<'_>, world: WorldId) -> Result<Option<AccountId>, Halt> {
    Ok(step.stored().world(world)?.map(|world| world.owner))
}

/// The first and the last place in an index at which a value meets a test.
fn ends(test: &Test) -> Option<([u8; 16], [u8; 16])> {
    let least = |value: &Json| {
        let mut bytes = [0; 16];
        bytes[0] = index_bytes(value)?[0];
        Some(bytes)
    };
    let most = |value: &Json| {
        let mut bytes = [0xff; 16];
        bytes[0] = index_bytes(value)?[0];
        Some(bytes)
    };
    match test {
        Test::Less(value) | Test::AtMost(value) => Some((least(value)?, index_bytes(value)?)),
        Test::More(value) | Test::AtLeast(value) => Some((index_bytes(value)?, most(value)?)),
        Test::Between(low, high) => Some((index_bytes(low)?, index_bytes(high)?)),
        Test::Equal(_) | Test::NotEqual(_) | Test::IsSet => None,
    }
}

/// Whether the caller sees an element in lists.
fn may_see(
    step: &Step<'_>,
    actor: Actor,
    element: &Element,
    element_type: &TypeDefinition,
) -> Result<bool, Halt> {
    let account = match actor {
        Actor::Caller => step.call.caller.account(),
        Actor::Action { owner, .. } => Some(owner),
    };
    if account == Some(element.owner) {
        return Ok(true);
    }
    let group = &element_type.definition.see_group;
    Ok(!step.is_owners_alone(actor, group, element_type)?)
}

fn picks(
    step: &mut Step<'_>,
    actor: Actor,
    expr: &Expr,
    element: &Element,
    element_type: &Arc<TypeDefinition>,
) -> Result<bool, Halt> {
    Ok(match expr {
        Expr::All => true,
        Expr::And(parts) => {
            for part in parts {
                if !picks(step, actor, part, element, element_type)? {
                    return Ok(false);
                }
            }
            true
        }
        Expr::Or(parts) => {
            for part in parts {
                if picks(step, actor, part, element, element_type)? {
                    return Ok(true);
                }
            }
            false
        }
        Expr::Not(part) => !picks(step, actor, part, element, element_type)?,
        Expr::Type(name) => {
            let named = step.element_type(name, owner_of(step, element.world)?)?.id;
            named == element_type.id || step.ancestors(element_type)?.contains(&named)
        }
        Expr::Name(pattern) => {
            element.name.as_ref().is_some_and(|name| fits_pattern(pattern, name.as_str()))
        }
        Expr::Owner(name) => owner(step, name)? == element.owner,
        Expr::Id(text) => name_key(text) == element.id.to_string(),
        Expr::In(set) => {
            let key = Key::MemberOf(element.world, element.id, named(step, set)?);
            step.stored().at(key)?.is_some()
        }
        Expr::ChildOf(set) => tied(step, Key::SetChild, named(step, set)?, element)?,
        Expr::ParentOf(set) => tied(step, Key::SetParent, named(step, set)?, element)?,
        Expr::LinkedFrom(set) => tied(step, Key::SetLink, named(step, set)?, element)?,
        Expr::LinkedTo(set) => tied(step, Key::SetLinked, named(step, set)?, element)?,
        Expr::DefinesSet => step.stored().set(element.world, element.id)?.is_some(),
        Expr::Value { attribute, test } => {
            // What one may not read selects nothing.
            match step.read_value(actor, element, attribute) {
                Ok(reading) => test.holds(&reading.value),
                Err(Halt::Problem(problem)) if is_unreadable(problem.code) => false,
                Err(halt) => return Err(halt),
            }
        }
    })
}

/// Whether a problem says that a value is not there for who reads, or not for them.
fn is_unreadable(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::NotOffered
            | Code::NotListed
            | Code::NotPermitted
            | Code::Conflict
            | Code::Refused
            | Code::ScriptFailed
            | Code::WrongKind
    )
}

fn owner(step: &Step<'_>, name: &str) -> Result<AccountId, Halt> {
    Ok(step.account_here(name)?.id)
}

fn named(step: &Step<'_>, set: &str) -> Result<ElementId, Halt> {
    Ok(step.element_here(set)?.id)
}

fn tied(
    step: &Step<'_>,
    key: fn(WorldId, ElementId, ElementId) -> Key,
    set: ElementId,
    element: &Element,
) -> Result<bool, Halt> {
    Ok(step.stored().at(key(element.world, set, element.id))?.is_some())
}
