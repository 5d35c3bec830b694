//! What a script may ask of the world around it.

use crate::model::{Json, Problem};

/// What a script reads from: `event`, `element`, `caller`, `world`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The event that it hears.
    Event,
    /// The element whose action it is.
    Element,
    /// Who caused it.
    Caller,
    /// Where and when it is.
    World,
}

/// Why a request of a script was not granted.
#[derive(Debug)]
pub enum Stop {
    /// An error that the script may catch.
    Raise(Problem),
    /// The whole step ends here, whatever the script does; the host knows why.
    End,
}

/// A question to an action of another element.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The element's name.
    pub element: String,
    /// The action's name.
    pub action: String,
    /// Its arguments, an object.
    pub args: Json,
}

/// What a script may touch. Implemented by the step that runs it.
pub trait Host {
    /// Reads an attribute, of another element if one is named.
    ///
    /// # Errors
    /// There is none, or no right to it.
    fn get(&mut self, attribute: &str, element: Option<&str>) -> Result<Json, Stop>;

    /// Sets an attribute and says what was really set.
    ///
    /// # Errors
    /// It was refused, or there is no right to it.
    fn set(&mut self, attribute: &str, value: Json, element: Option<&str>) -> Result<Json, Stop>;

    /// Asks actions of other elements, side by side.
    ///
    /// # Errors
    /// One of them refused or could not be asked.
    fn ask(&mut self, questions: Vec<Asked>) -> Result<Vec<Json>, Stop>;

    /// Sends a custom event, to another element if one is named, once the step is committed.
    ///
    /// # Errors
    /// There is no such element.
    fn send(&mut self, event: &str, data: Json, element: Option<&str>) -> Result<(), Stop>;

    /// Finds elements of its world by a selection.
    ///
    /// # Errors
    /// The selection has a mistake, or picks too many.
    fn find(&mut self, selection: &str) -> Result<Json, Stop>;

    /// Makes an element in its world, and gives back its id.
    ///
    /// # Errors
    /// It was refused, or there is no right to it.
    fn create(&mut self, type_name: &str, values: Json, name: Option<&str>) -> Result<Json, Stop>;

    /// Destroys an element.
    ///
    /// # Errors
    /// It was refused, or there is no right to it.
    fn destroy(&mut self, element: &str) -> Result<(), Stop>;

    /// Puts an element, itself if none is named, into a set, or takes it out. Whether that changed
    /// anything.
    ///
    /// # Errors
    /// It was refused, or there is no right to it.
    fn stand(&mut self, set: &str, element: Option<&str>, inside: bool) -> Result<bool, Stop>;

    /// Moves an element, itself if none is named, into a world, here or at another server, once everything
    /// is committed.
    ///
    /// # Errors
    /// There is no right to it, or no such element here.
    fn travel(&mut self, world: &str, element: Option<&str>) -> Result<(), Stop>;

    /// Adds a line to the job's trace.
    fn log(&mut self, line: &str);

    /// One fact about a subject; null where there is none.
    fn fact(&mut self, subject: Subject, key: &str) -> Json;

    /// Every fact about a subject, an object.
    fn facts(&mut self, subject: Subject) -> Json;

    /// The next 64 random bits of this run, from the job's seed and its place.
    fn random(&mut self) -> u64;
}
