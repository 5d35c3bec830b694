//! Timers of elements: listed, and stopped. Events start them.

use serde_json::json;

use super::element_life::check_owner;
use crate::model::{Code, Json, Problem, TimerDoes, TimerId};
use crate::step::{Halt, Step};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "see or stop the timers of")?;
    let items: Vec<Json> = step
        .timers_of(&element)?
        .into_iter()
        .map(|timer| {
            let event = match &timer.does {
                TimerDoes::Fire(event, _) => Some(event),
                TimerDoes::Destroy | TimerDoes::Start => None,
            };
            json!({
                "id": timer.id,
                "at": timer.at.to_string(),
                "every_ms": timer.every_ms,
                "event": event,
                "destroys": timer.does == TimerDoes::Destroy,
            })
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "see or stop the timers of")?;
    let text = step.word("timer");
    let id = text.parse::<TimerId>().ok();
    let found = step.timers_of(&element)?.into_iter().find(|timer| Some(timer.id) == id);
    let timer = found.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("the element has no timer '{text}'"))
            .hint("see them with: freehold timer ls ELEMENT")
    })?;
    if timer.does == TimerDoes::Destroy {
        let says = "the end of its time is said by a value: set that";
        return Err(Problem::new(Code::Usage, says).into());
    }
    step.stop_timer(&timer)?;
    Ok(json!({"id": timer.id}))
}
