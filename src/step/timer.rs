//! Timers: custom events that are fired at a time, and the end of an element's time.

use super::{Halt, Step};
use crate::model::{
    Code, Element, Json, Key, Problem, Row, Timer, TimerDoes, TimerId, Timestamp, TypeDefinition,
};

/// Timers of one element at most.
const TIMERS_MAX: usize = 64;

impl Step<'_> {
    /// Starts a timer of an element.
    ///
    /// # Errors
    /// It has too many.
    pub fn start_timer(
        &mut self,
        element: &Element,
        at: Timestamp,
        every_ms: Option<u64>,
        does: TimerDoes,
    ) -> Result<TimerId, Halt> {
        if self.timers_of(element)?.len() >= TIMERS_MAX {
            let says = format!("an element has at most {TIMERS_MAX} timers");
            return Err(Problem::new(Code::OverLimit, says).into());
        }
        let id = TimerId::at(self.now, self.random());
        let (world, element) = (element.world, element.id);
        let timer = Timer { id, world, element, at, every_ms, does };
        self.put(Key::Timer(at, id), Row::Timer(timer.into()))?;
        self.put(Key::TimerOf(world, element, id), Row::At(at.unix_ms()))?;
        Ok(id)
    }

    /// Starts the timers of the events that are fired by themselves.
    pub(super) fn start_timers(
        &mut self,
        element: &Element,
        element_type: &TypeDefinition,
    ) -> Result<(), Halt> {
        for name in element_type.definition.events.keys() {
            self.start_event(element, element_type, name)?;
        }
        Ok(())
    }

    /// Starts the timer of one event, if it is fired by itself.
    pub(super) fn start_event(
        &mut self,
        element: &Element,
        element_type: &TypeDefinition,
        name: &str,
    ) -> Result<(), Halt> {
        let event = element_type.definition.events.get(name);
        let Some(every_ms) = event.and_then(|event| event.every_ms) else { return Ok(()) };
        let does = TimerDoes::Fire(name.to_owned(), Json::Object(serde_json::Map::new()));
        self.start_timer(element, self.now.after_ms(every_ms), Some(every_ms), does)?;
        Ok(())
    }

    /// Stops those timers of an element that `wanted` picks.
    pub(super) fn stop_timers(
        &mut self,
        element: &Element,
        wanted: impl Fn(&TimerDoes) -> bool,
    ) -> Result<(), Halt> {
        for timer in self.timers_of(element)? {
            if wanted(&timer.does) {
                self.stop_timer(&timer)?;
            }
        }
        Ok(())
    }

    /// Stops the timers of an element that its type did not start.
    ///
    /// # Errors
    /// Too much changed.
    pub fn stop_own_timers(&mut self, element: &Element) -> Result<(), Halt> {
        let element_type = self.type_of(element.type_id)?;
        for timer in self.timers_of(element)? {
            let TimerDoes::Fire(event, _) = &timer.does else { continue };
            let every_ms =
                element_type.definition.events.get(event).and_then(|event| event.every_ms);
            if every_ms.is_none() || every_ms != timer.every_ms {
                self.stop_timer(&timer)?;
            }
        }
        Ok(())
    }

    /// Stops a timer.
    ///
    /// # Errors
    /// Too much changed.
    pub fn stop_timer(&mut self, timer: &Timer) -> Result<(), Halt> {
        self.change(Key::Timer(timer.at, timer.id), None)?;
        self.change(Key::TimerOf(timer.world, timer.element, timer.id), None)
    }

    /// The timers of an element.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn timers_of(&self, element: &Element) -> Result<Vec<std::sync::Arc<Timer>>, Halt> {
        let key = |bytes| Key::TimerOf(element.world, element.id, TimerId::from_bytes(bytes));
        let mut timers = Vec::new();
        for (held, row) in self.stored().rows(&key([0; 16]), &key([0xff; 16]), TIMERS_MAX + 1)? {
            let (Key::TimerOf(_, _, id), Row::At(ms)) = (held, row) else { continue };
            let at = Timestamp::from_ms(ms);
            if let Some(Row::Timer(timer)) = self.stored().row(&Key::Timer(at, id))? {
                timers.push(timer);
            }
        }
        Ok(timers)
    }
}
