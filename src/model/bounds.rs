//! Bounds: the times and places in which a thing exists. The time is handed in, and so is the zone
//! where the bounds name none. Named zones come from the database inside the program, not from
//! the machine's files.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{Json, Kind, Timestamp, suggest};

/// Spans of time in one thing's bounds.
const TIMES_MAX: usize = 32;

/// Schedules in one thing's bounds.
const SCHEDULES_MAX: usize = 32;

/// Bytes of a cron expression.
const CRON_BYTES_MAX: usize = 128;

/// Bytes of a zone's name for which a like one is looked for.
const ZONE_BYTES_MAX: usize = 64;

const MINUTE_MS: u64 = 60_000;

/// How long a schedule lasts at least.
const LASTS_MS_MIN: u64 = MINUTE_MS;

/// How long a schedule lasts at most.
const LASTS_MS_MAX: u64 = 31 * 24 * 60 * MINUTE_MS;

/// When and where a thing exists. What is not given bounds nothing.
///
/// Bounds that were not made by [`Bounds::from_json`] may hold what cannot be read. A schedule
/// that cannot be read, or whose zone is unknown, never holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// It exists within any of these; none given: at any time.
    pub times: Vec<TimeSpan>,
    /// It exists while any of these lasts; none given: at any time.
    pub schedules: Vec<Schedule>,
    /// The time zone of the schedules (IANA name); else the one that is handed in.
    pub zone: Option<String>,
    /// The box in which it exists; none given: everywhere.
    pub area: Option<Area>,
}

/// A span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TimeSpan {
    /// Its first moment; none given: it has always begun.
    pub from: Option<Timestamp>,
    /// The first moment after it; none given: it never ends.
    pub until: Option<Timestamp>,
}

/// Times that come again: from each time the expression fires, for as long as it lasts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    /// When it begins.
    pub cron: CronText,
    /// For how long the thing exists each time: 1 minute to 31 days.
    pub lasts_ms: u64,
}

/// A box, its ends included.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Area {
    /// The attribute of kind position that must be within.
    pub attribute: String,
    /// The least x, y and z.
    pub min: [f64; 3],
    /// The greatest x, y and z.
    pub max: [f64; 3],
}

impl Bounds {
    /// Whether they bound nothing. A zone alone bounds nothing.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.schedules.is_empty() && self.area.is_none()
    }

    /// Reads them as they stand in a type file, turned into JSON. Every key may be left out:
    ///
    /// ```json
    /// {
    ///   "times": [{ "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z" }],
    ///   "schedules": [{ "cron": "0 9 * * 1-5", "lasts": "8h" }],
    ///   "zone": "Europe/Berlin",
    ///   "area": {
    ///     "attribute": "pos",
    ///     "min": { "x": 0, "y": 0 },
    ///     "max": { "x": 9, "y": 9, "z": 3 }
    ///   }
    /// }
    /// ```
    ///
    /// A span has at least one of its ends. A schedule and an area have all that is shown.
    ///
    /// # Errors
    /// All mistakes, each a sentence.
    pub fn from_json(json: &Json) -> Result<Self, Vec<String>> {
        let mut reader = Reader { mistakes: Vec::new() };
        let bounds = reader.bounds(json);
        if reader.mistakes.is_empty() { Ok(bounds) } else { Err(reader.mistakes) }
    }

    /// Whether the thing exists at `now`: within a span, if any are given, and while a schedule
    /// lasts, if any are given. `zone` is used where the bounds name none.
    pub fn hold_at(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let in_times = self.times.is_empty() || self.times.iter().any(|span| span.holds_at(now));
        in_times && (self.schedules.is_empty() || self.schedules_hold_at(now, zone))
    }

    /// Whether the thing exists at the value of the area's attribute. Without an area it exists
    /// everywhere; with one it needs a position.
    pub fn hold_in(&self, position: Option<&Json>) -> bool {
        let Some(area) = &self.area else { return true };
        position.and_then(point).is_some_and(|point| area.holds_in(point))
    }

    fn schedules_hold_at(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let any_in =
            |zone: &TimeZone| self.schedules.iter().any(|schedule| schedule.holds_at(now, zone));
        match &self.zone {
            None => any_in(zone),
            Some(name) => zone_named(name).is_some_and(|zone| any_in(&zone)),
        }
    }
}

impl TimeSpan {
    fn holds_at(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

impl Schedule {
    /// Goes back from `now` until the expression fires or no firing could last until `now`. Each
    /// round goes back to the next minute that may fire, or a day.
    fn holds_at(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let Some(cron) = &self.cron.fires else { return false };
        let lasts_ms = self.lasts_ms.min(LASTS_MS_MAX);
        let mut minute = now.unix_ms() / MINUTE_MS;
        while now.unix_ms() - minute * MINUTE_MS < lasts_ms {
            let Some((offset, local)) = local_at(minute, zone) else { return false };
            let back = cron.minutes_back(local);
            if back == 0 {
                return true;
            }
            // Where the clock was changed on the way, going so far could miss what fires between.
            let mut far = back;
            while far > 1 && offset_before(minute, far, zone) != Some(offset) {
                far /= 2;
            }
            let Some(earlier) = minute.checked_sub(far) else { return false };
            minute = earlier;
        }
        false
    }
}

impl Area {
    fn holds_in(&self, point: [f64; 3]) -> bool {
        (0..3).all(|axis| (self.min[axis]..=self.max[axis]).contains(&point[axis]))
    }
}

/// The clock at a minute since 1970, and how far it is from UTC.
fn local_at(minute: u64, zone: &TimeZone) -> Option<(Offset, DateTime)> {
    let ms = i64::try_from(minute.checked_mul(MINUTE_MS)?).ok()?;
    let moment = jiff::Timestamp::from_millisecond(ms).ok()?;
    let offset = zone.to_offset(moment);
    Some((offset, offset.to_datetime(moment)))
}

/// How far the clock was from UTC, `back` minutes before a minute since 1970.
fn offset_before(minute: u64, back: u64, zone: &TimeZone) -> Option<Offset> {
    local_at(minute.checked_sub(back)?, zone).map(|(offset, _)| offset)
}

fn zone_named(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())
}

/// The numbers of a position; z left out is 0.
fn point(json: &Json) -> Option<[f64; 3]> {
    let z = match json.get("z") {
        Some(z) => z.as_f64()?,
        None => 0.0,
    };
    Some([json.get("x")?.as_f64()?, json.get("y")?.as_f64()?, z])
}

/// Reads `500ms`, `5s`, `10m`, `24h` or `30d`, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Reads bounds from JSON and gathers the mistakes.
struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn bounds(&mut self, json: &Json) -> Bounds {
        let known = ["times", "schedules", "zone", "area"];
        let Some(table) = self.table("bounds", json, &known) else { return Bounds::default() };
        let times = (0..)
            .zip(self.list("times", table.get("times"), TIMES_MAX))
            .filter_map(|(at, json)| self.span(&format!("times[{at}]"), json))
            .collect();
        let schedules = (0..)
            .zip(self.list("schedules", table.get("schedules"), SCHEDULES_MAX))
            .filter_map(|(at, json)| self.schedule(&format!("schedules[{at}]"), json))
            .collect();
        let zone = table.get("zone").and_then(|json| self.zone(json));
        let area = table.get("area").and_then(|json| self.area(json));
        Bounds { times, schedules, zone, area }
    }

    fn span(&mut self, at: &str, json: &Json) -> Option<TimeSpan> {
        let table = self.table(at, json, &["from", "until"])?;
        if !table.contains_key("from") && !table.contains_key("until") {
            self.mistakes.push(format!("{at} has neither from nor until"));
        }
        let from = table.get("from").and_then(|json| self.moment(&format!("{at}.from"), json));
        let until = table.get("until").and_then(|json| self.moment(&format!("{at}.until"), json));
        if let (Some(from), Some(until)) = (from, until)
            && until <= from
        {
            self.mistakes.push(format!("{at}.until is not later than its from"));
        }
        Some(TimeSpan { from, until })
    }

    fn moment(&mut self, at: &str, json: &Json) -> Option<Timestamp> {
        let text = self.text(at, json)?;
        let moment = text.parse::<jiff::Timestamp>().ok();
        let ms = moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
        if ms.is_none() {
            let got = shortened(text);
            self.mistakes.push(format!(
                "{at} is no time since 1970, got '{got}': write 2026-01-01T00:00:00Z"
            ));
        }
        ms.map(Timestamp::from_ms)
    }

    fn schedule(&mut self, at: &str, json: &Json) -> Option<Schedule> {
        let table = self.table(at, json, &["cron", "lasts"])?;
        let cron = self.needed(at, table, "cron").and_then(|json| self.cron(at, json));
        let lasts_ms = self.needed(at, table, "lasts").and_then(|json| self.lasts_ms(at, json));
        Some(Schedule { cron: cron?, lasts_ms: lasts_ms? })
    }

    fn cron(&mut self, at: &str, json: &Json) -> Option<CronText> {
        let text = self.text(&format!("{at}.cron"), json)?;
        match Cron::parse(text) {
            Ok(_) => Some(CronText::from(text.to_owned())),
            Err(says) => {
                self.mistakes.push(format!("{at}.cron: {says}"));
                None
            }
        }
    }

    fn lasts_ms(&mut self, at: &str, json: &Json) -> Option<u64> {
        let text = self.text(&format!("{at}.lasts"), json)?;
        let got = shortened(text);
        match parse_duration_ms(text) {
            Some(ms) if (LASTS_MS_MIN..=LASTS_MS_MAX).contains(&ms) => Some(ms),
            Some(_) => {
                self.mistakes.push(format!("{at}.lasts is from 1m to 31d, got '{got}'"));
                None
            }
            None => {
                self.mistakes.push(format!(
                    "{at}.lasts is no span of time, got '{got}': write 10m, 24h or 30d"
                ));
                None
            }
        }
    }

    fn zone(&mut self, json: &Json) -> Option<String> {
        let text = self.text("zone", json)?;
        if zone_named(text).is_some() {
            return Some(text.to_owned());
        }
        let names: Vec<_> = if text.len() <= ZONE_BYTES_MAX {
            TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
        } else {
            Vec::new()
        };
        let got = shortened(text);
        self.mistakes.push(match suggest(text, names.iter().map(String::as_str)) {
            Some(meant) => format!("'{got}' is no time zone, did you mean '{meant}'?"),
            None => {
                format!("'{got}' is no time zone: write an IANA name such as Europe/Berlin")
            }
        });
        None
    }

    fn area(&mut self, json: &Json) -> Option<Area> {
        let table = self.table("area", json, &["attribute", "min", "max"])?;
        let attribute = self
            .needed("area", table, "attribute")
            .and_then(|json| self.text("area.attribute", json))
            .map(str::to_owned);
        let min = self.needed("area", table, "min").and_then(|json| self.corner("area.min", json));
        let max = self.needed("area", table, "max").and_then(|json| self.corner("area.max", json));
        let area = Area { attribute: attribute?, min: min?, max: max? };
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            if area.min[axis] > area.max[axis] {
                self.mistakes.push(format!("area.min is above area.max in {name}"));
            }
        }
        Some(area)
    }

    fn corner(&mut self, at: &str, json: &Json) -> Option<[f64; 3]> {
        match Kind::Position.check(json.clone()) {
            Ok(position) => point(&position),
            Err(mistake) => {
                self.mistakes.push(format!("{at}: {mistake}"));
                None
            }
        }
    }

    /// The members of what stands at `at`. Names every key that is not `known`.
    fn table<'j>(
        &mut self,
        at: &str,
        json: &'j Json,
        known: &[&str],
    ) -> Option<&'j Map<String, Json>> {
        let Some(members) = json.as_object() else {
            let got = shortened(&json.to_string());
            self.mistakes.push(format!("{at} must be a table, got {got}"));
            return None;
        };
        for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
            let got = shortened(key);
            self.mistakes.push(match suggest(key, known.iter().copied()) {
                Some(meant) => format!("unknown key '{got}' in {at}, did you mean '{meant}'?"),
                None => format!("unknown key '{got}' in {at}: it may have {}", known.join(", ")),
            });
        }
        Some(members)
    }

    /// The items of what stands at `at`; none where nothing stands there.
    fn list<'j>(&mut self, at: &str, json: Option<&'j Json>, max: usize) -> &'j [Json] {
        let Some(json) = json else { return &[] };
        let Some(items) = json.as_array() else {
            let got = shortened(&json.to_string());
            self.mistakes.push(format!("{at} must be a list, got {got}"));
            return &[];
        };
        if items.len() > max {
            let count = items.len();
            self.mistakes.push(format!("{at} has {count} entries, at most {max} are allowed"));
            return &[];
        }
        items
    }

    fn text<'j>(&mut self, at: &str, json: &'j Json) -> Option<&'j str> {
        let text = json.as_str();
        if text.is_none() {
            let got = shortened(&json.to_string());
            self.mistakes.push(format!("{at} must be text, got {got}"));
        }
        text
    }

    fn needed<'j>(
        &mut self,
        at: &str,
        table: &'j Map<String, Json>,
        key: &str,
    ) -> Option<&'j Json> {
        let value = table.get(key);
        if value.is_none() {
            self.mistakes.push(format!("{at} has no {key}"));
        }
        value
    }
}

/// At most 40 characters of `text`.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut head: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() {
        head.push_str("...");
    }
    head
}

/// A cron expression as it was written, see [`Cron`]. It is read once, where it comes in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct CronText {
    text: String,
    /// None: it cannot be read.
    fires: Option<Cron>,
}

impl From<String> for CronText {
    fn from(text: String) -> Self {
        Self { fires: Cron::parse(&text).ok(), text }
    }
}

impl From<CronText> for String {
    fn from(cron: CronText) -> Self {
        cron.text
    }
}

/// A cron expression: minute, hour, day of the month, month and weekday, as crontab(5) says.
///
/// It fires at minutes of the local clock. A minute that the clock leaves out does not fire; one
/// that comes twice fires twice. Where neither day field begins with `*`, either may match; else
/// both must.
///
/// Invariant: no field is empty, and each set holds one bit for each value of its field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    either_day: bool,
}

impl Cron {
    /// Reads an expression of five fields. A field is `*`, a value, a range such as `1-5`, a
    /// range with a step such as `*/5` or `8-18/2`, or a list of them. Months and weekdays may be
    /// named by three letters; 0 and 7 are Sunday.
    ///
    /// # Errors
    /// Says which part is wrong, or that it would never fire.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CRON_BYTES_MAX {
            let bytes = text.len();
            return Err(format!(
                "a cron expression has at most {CRON_BYTES_MAX} bytes, this has {bytes}"
            ));
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = fields.len();
            return Err(format!(
                "a cron expression has five fields (minute, hour, day of the month, month, \
                 weekday), this has {count}"
            ));
        };
        let weekdays = WEEKDAY.parse(weekday)?;
        let cron = Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: weekdays | ((weekdays >> 7) & 1),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        if cron.either_day || cron.has_a_day() {
            Ok(cron)
        } else {
            Err(format!("'{day} {month}' never comes: these months have no such day"))
        }
    }

    /// Whether it fires in the minute of `at`.
    pub fn matches(&self, at: &jiff::Zoned) -> bool {
        self.minutes_back(at.datetime()) == 0
    }

    /// 0 where it fires at `local`; else how far back the first minute stands that may fire, on a
    /// clock that was not changed.
    fn minutes_back(&self, local: DateTime) -> u64 {
        let (hour, minute) = (local.hour().unsigned_abs(), local.minute().unsigned_abs());
        let to_hour_before = u64::from(minute) + 1;
        if !self.fires_on(local) {
            return u64::from(hour) * 60 + to_hour_before;
        }
        if !has(self.hours, hour) {
            let last = last_below(self.hours, hour);
            let between = last.map_or(hour, |last| hour - last - 1);
            return u64::from(between) * 60 + to_hour_before;
        }
        if has(self.minutes, minute) {
            return 0;
        }
        last_below(self.minutes, minute)
            .map_or(to_hour_before, |last| u64::from(minute) - u64::from(last))
    }

    fn fires_on(&self, local: DateTime) -> bool {
        let day = has(self.days, local.day().unsigned_abs());
        let weekday = has(self.weekdays, local.weekday().to_sunday_zero_offset().unsigned_abs());
        let day_fires = if self.either_day { day || weekday } else { day && weekday };
        day_fires && has(self.months, local.month().unsigned_abs())
    }

    /// Whether any of the months is long enough for the first of the days.
    fn has_a_day(&self) -> bool {
        let first = self.days.trailing_zeros();
        (1_u8..).zip(MONTH_DAYS).any(|(month, days)| has(self.months, month) && first <= days)
    }
}

/// Days of each month, at most.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

fn has(set: u64, value: u8) -> bool {
    set & (1_u64 << value) != 0
}

/// The greatest value in a set that is less than one below 64.
fn last_below(set: u64, value: u8) -> Option<u8> {
    let below = set & ((1_u64 << value) - 1);
    below.checked_ilog2().and_then(|last| u8::try_from(last).ok())
}

/// What one field of a cron expression may say.
struct Field {
    name: &'static str,
    first: u8,
    /// Below 64, so that a set has a bit for it.
    last: u8,
    /// Names of the values from `first` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", first: 1, last: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    name: "weekday",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Field {
    /// Reads the field into the set of its values.
    fn parse(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part)?;
        }
        Ok(set)
    }

    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => self.range(first, last)?,
            None if range == "*" => (self.first, self.last),
            None => {
                let value = self.value(range)?;
                if let Some(step) = step {
                    let last = self.last;
                    return Err(format!(
                        "'{part}' has a step but no range: write {value}-{last}/{step}"
                    ));
                }
                (value, value)
            }
        };
        let step = step.unwrap_or(1);
        Ok((first..=last).step_by(usize::from(step)).fold(0, |set, value| set | (1_u64 << value)))
    }

    fn range(&self, first: &str, last: &str) -> Result<(u8, u8), String> {
        let (from, to) = (self.value(first)?, self.value(last)?);
        if from <= to {
            return Ok((from, to));
        }
        // A week may also end with Sunday: fri-sun.
        if self.last == WEEKDAY.last && to == 0 {
            return Ok((from, WEEKDAY.last));
        }
        Err(format!("'{first}-{last}' ends before it begins"))
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let Self { name, last, .. } = self;
        number(text)
            .filter(|step| (1..=*last).contains(step))
            .ok_or_else(|| format!("'{text}' is no step of the {name}: write 1 to {last}"))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(place) => u8::try_from(place).ok().map(|place| self.first + place),
            None => number(text),
        };
        let fits = value.filter(|value| (self.first..=self.last).contains(value));
        fits.ok_or_else(|| {
            let Self { name, first, last, names } = self;
            let names = match (names.first(), names.last()) {
                (Some(first), Some(last)) => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            format!("'{text}' is no {name}: write {first} to {last}{names}")
        })
    }
}

/// Reads digits and nothing else.
fn number(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn bounds_are_read_as_they_stand_in_a_type_file() {
        let bounds = read(json!({
            "times": [
                {"from": "2026-01-01T00:00:00Z", "until": "2026-07-01T02:00:00+02:00"},
                {"until": "1999-01-01T00:00:00.5Z"},
            ],
            "schedules": [{"cron": "0 9 * * 1-5", "lasts": "8h"}],
            "zone": "Europe/Berlin",
            "area": {
                "attribute": "pos",
                "min": {"x": 0, "y": -1},
                "max": {"x": 9, "y": 9.5, "z": 3},
            },
        }));

        let times = vec![
            TimeSpan {
                from: Some(time("2026-01-01T00:00:00Z")),
                until: Some(time("2026-07-01T00:00:00Z")),
            },
            TimeSpan { from: None, until: Some(time("1999-01-01T00:00:00.500Z")) },
        ];
        let schedules =
            vec![Schedule { cron: "0 9 * * 1-5".to_owned().into(), lasts_ms: 8 * 3_600_000 }];
        let area =
            Area { attribute: "pos".to_owned(), min: [0.0, -1.0, 0.0], max: [9.0, 9.5, 3.0] };
        let zone = Some("Europe/Berlin".to_owned());
        assert!(!bounds.is_empty());
        assert_eq!(bounds, Bounds { times, schedules, zone, area: Some(area) });
    }

    #[test]
    fn what_is_not_given_bounds_nothing() {
        let bounds = read(json!({}));

        assert_eq!(bounds, Bounds::default());
        assert!(bounds.is_empty() && read(json!({"zone": "UTC"})).is_empty());
        assert!(bounds.hold_at(Timestamp::from_ms(u64::MAX), &TimeZone::UTC));
        assert!(bounds.hold_in(None));
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let mistakes = Bounds::from_json(&json!({
            "tmes": [],
            "times": [
                {"from": "yesterday"},
                {"from": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
                {"form": "2026-01-02T00:00:00Z"},
                {"until": "1969-12-31T00:00:00Z"},
                {"until": "2026-01-02T00:00:00"},
            ],
            "schedules": [{"cron": "0 25 * * *", "lasts": "30s"}, {"cron": 5}, 6],
            "zone": "Europe/Berln",
            "area": {"attribute": 7, "min": {"x": 5, "y": 0}, "max": "here"},
        }))
        .unwrap_err();

        let want = [
            "unknown key 'tmes' in bounds, did you mean 'times'?",
            "times[0].from is no time since 1970, got 'yesterday': write 2026-01-01T00:00:00Z",
            "times[1].until is not later than its from",
            "unknown key 'form' in times[2], did you mean 'from'?",
            "times[2] has neither from nor until",
            "times[3].until is no time since 1970, got '1969-12-31T00:00:00Z': \
             write 2026-01-01T00:00:00Z",
            "times[4].until is no time since 1970, got '2026-01-02T00:00:00': \
             write 2026-01-01T00:00:00Z",
            "schedules[0].cron: '25' is no hour: write 0 to 23",
            "schedules[0].lasts is from 1m to 31d, got '30s'",
            "schedules[1].cron must be text, got 5",
            "schedules[1] has no lasts",
            "schedules[2] must be a table, got 6",
            "'Europe/Berln' is no time zone, did you mean 'Europe/Berlin'?",
            "area.attribute must be text, got 7",
            "area.max: expected a position {x, y, z}, got \"here\"",
        ];
        assert_eq!(mistakes, want);
    }

    #[test]
    fn each_mistake_is_named() {
        let table = [
            (json!(5), "bounds must be a table, got 5"),
            (json!({"times": {}}), "times must be a list, got {}"),
            (
                json!({"times": vec![json!({"until": "2026-01-02T00:00:00Z"}); 33]}),
                "times has 33 entries, at most 32 are allowed",
            ),
            (
                json!({"schedules": vec![json!({"cron": "0 0 * * *", "lasts": "1h"}); 33]}),
                "schedules has 33 entries, at most 32 are allowed",
            ),
            (
                json!({"schedules": [{"cron": "0 0 * * *", "lasts": "a day"}]}),
                "schedules[0].lasts is no span of time, got 'a day': write 10m, 24h or 30d",
            ),
            (
                json!({"schedules": [{"cron": "0 0 * * *", "lasts": "32d"}]}),
                "schedules[0].lasts is from 1m to 31d, got '32d'",
            ),
            (json!({"zone": "?"}), "'?' is no time zone: write an IANA name such as Europe/Berlin"),
            (
                json!({"area": {
                    "attribute": "pos", "min": {"x": 0, "y": 2}, "max": {"x": 0, "y": 1}
                }}),
                "area.min is above area.max in y",
            ),
            (
                json!({"qq": 1}),
                "unknown key 'qq' in bounds: it may have times, schedules, zone, area",
            ),
        ];
        for (json, want) in table {
            assert_eq!(Bounds::from_json(&json), Err(vec![want.to_owned()]), "{json}");
        }
        assert!(Bounds::from_json(&json!({"zone": "Etc/Unknown"})).is_err());
        assert!(Bounds::from_json(&json!({"zone": "x".repeat(100_000)})).is_err());
    }

    #[test]
    fn as_many_spans_and_schedules_as_are_allowed_are_read() {
        let bounds = read(json!({
            "times": vec![json!({"until": "2026-01-02T00:00:00Z"}); 32],
            "schedules": vec![json!({"cron": "0 0 * * *", "lasts": "31d"}); 32],
        }));

        assert_eq!((bounds.times.len(), bounds.schedules.len()), (32, 32));
    }

    #[test]
    fn a_span_holds_its_first_moment_and_not_its_end() {
        let bounds = read(json!({"times": [
            {"until": "2026-01-01T00:00:00Z"},
            {"from": "2026-02-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"},
            {"from": "2026-04-01T00:00:00Z"},
        ]}));
        let table = [
            ("1970-01-01T00:00:00Z", true),
            ("2025-12-31T23:59:59.999Z", true),
            ("2026-01-01T00:00:00Z", false),
            ("2026-01-31T23:59:59.999Z", false),
            ("2026-02-01T00:00:00Z", true),
            ("2026-02-28T23:59:59.999Z", true),
            ("2026-03-01T00:00:00Z", false),
            ("2026-04-01T00:00:00Z", true),
            ("2099-01-01T00:00:00Z", true),
        ];
        for (now, want) in table {
            assert_eq!(bounds.hold_at(time(now), &TimeZone::UTC), want, "{now}");
        }
    }

    #[test]
    fn a_span_and_a_schedule_must_both_hold() {
        let bounds = read(json!({
            "times": [{"from": "2026-06-02T00:00:00Z"}],
            "schedules": [
                {"cron": "0 9 * * *", "lasts": "1h"},
                {"cron": "0 20 * * *", "lasts": "1h"},
            ],
        }));
        let table = [
            ("2026-06-01T09:30:00Z", false),
            ("2026-06-02T09:30:00Z", true),
            ("2026-06-02T10:30:00Z", false),
            ("2026-06-02T20:30:00Z", true),
        ];
        for (now, want) in table {
            assert_eq!(bounds.hold_at(time(now), &TimeZone::UTC), want, "{now}");
        }
    }

    #[test]
    fn an_area_holds_its_ends_and_needs_a_position() {
        let bounds = read(json!({"area": {
            "attribute": "pos", "min": {"x": 0, "y": 0}, "max": {"x": 9, "y": 9, "z": 3}
        }}));
        let table = [
            (json!({"x": 0, "y": 0, "z": 0}), true),
            (json!({"x": 9, "y": 9.0, "z": 3}), true),
            (json!({"x": 5, "y": 5}), true),
            (json!({"x": 9.001, "y": 9, "z": 3}), false),
            (json!({"x": 9, "y": -0.001}), false),
            (json!({"x": 9, "y": 9, "z": 3.001}), false),
            (json!({"x": 5}), false),
            (json!({"x": 5, "y": 5, "z": "up"}), false),
            (json!(null), false),
            (json!([5, 5]), false),
        ];
        for (position, want) in table {
            assert_eq!(bounds.hold_in(Some(&position)), want, "{position}");
        }
        assert!(!bounds.hold_in(None));
    }

    #[test]
    fn expressions_fire_as_crontab_says() {
        let table = [
            ("* * * * *", "2026-06-01T09:00", true),
            ("0 9 * * 1-5", "2026-06-01T09:00", true),
            ("0 9 * * 1-5", "2026-06-01T09:01", false),
            ("0 9 * * 1-5", "2026-06-01T10:00", false),
            ("0 9 * * 1-5", "2026-06-06T09:00", false),
            ("0 9 * * MON-fri", "2026-06-05T09:00", true),
            ("*/15 * * * *", "2026-06-01T09:45", true),
            ("*/15 * * * *", "2026-06-01T09:46", false),
            ("5-59/20 * * * *", "2026-06-01T09:25", true),
            ("5-59/20 * * * *", "2026-06-01T09:20", false),
            ("0 8-18/2,23 * * *", "2026-06-01T16:00", true),
            ("0 8-18/2,23 * * *", "2026-06-01T23:00", true),
            ("0 8-18/2,23 * * *", "2026-06-01T17:00", false),
            ("0 0 1 jan,Jul *", "2026-07-01T00:00", true),
            ("0 0 1 jan,Jul *", "2026-06-01T00:00", false),
            // Sunday is 0, 7 and sun, and may end a week.
            ("0 0 * * 0", "2026-06-07T00:00", true),
            ("0 0 * * 7", "2026-06-07T00:00", true),
            ("0 0 * * sun", "2026-06-07T00:00", true),
            ("0 0 * * 5-7", "2026-06-07T00:00", true),
            ("0 0 * * fri-sun", "2026-06-07T00:00", true),
            ("0 0 * * fri-sun", "2026-06-08T00:00", false),
            ("0 0 * * 1-6", "2026-06-07T00:00", false),
            // A leap day comes in leap years.
            ("0 0 29 2 *", "2028-02-29T00:00", true),
            ("0 0 29 2 *", "2027-03-01T00:00", false),
            // The 13th or a Friday.
            ("0 0 13 * 5", "2026-06-13T00:00", true),
            ("0 0 13 * 5", "2026-06-05T00:00", true),
            ("0 0 13 * 5", "2026-06-06T00:00", false),
            ("0 0 13 7 5", "2026-06-05T00:00", false),
            // One field that begins with a star: both must match.
            ("0 0 13 * *", "2026-06-05T00:00", false),
            ("0 0 * * 5", "2026-06-13T00:00", false),
            ("0 0 */2 * 5", "2026-06-05T00:00", true),
            ("0 0 */2 * 5", "2026-06-12T00:00", false),
            ("0 0 */2 * 5", "2026-06-13T00:00", false),
        ];
        for (text, local, want) in table {
            let local: DateTime = local.parse().unwrap();
            let at = local.to_zoned(berlin()).unwrap();
            assert_eq!(Cron::parse(text).unwrap().matches(&at), want, "{text} at {at}");
        }
    }

    #[test]
    fn a_bad_expression_says_what_is_wrong() {
        let table = [
            (
                "",
                "a cron expression has five fields (minute, hour, day of the month, month, \
                 weekday), this has 0",
            ),
            (
                "@daily",
                "a cron expression has five fields (minute, hour, day of the month, month, \
                 weekday), this has 1",
            ),
            ("60 * * * *", "'60' is no minute: write 0 to 59"),
            ("+5 * * * *", "'+5' is no minute: write 0 to 59"),
            ("1,,2 * * * *", "'' is no minute: write 0 to 59"),
            ("-5 * * * *", "'' is no minute: write 0 to 59"),
            ("1-2-3 * * * *", "'2-3' is no minute: write 0 to 59"),
            ("* 999 * * *", "'999' is no hour: write 0 to 23"),
            ("* * 0 * *", "'0' is no day of the month: write 1 to 31"),
            ("* * * may-june *", "'june' is no month: write 1 to 12 or jan to dec"),
            ("* * * * 8", "'8' is no weekday: write 0 to 7 or sun to sat"),
            ("* * * * mon#1", "'mon#1' is no weekday: write 0 to 7 or sun to sat"),
            ("* 22-2 * * *", "'22-2' ends before it begins"),
            ("* 5-0 * * *", "'5-0' ends before it begins"),
            ("*/0 * * * *", "'0' is no step of the minute: write 1 to 59"),
            ("*/60 * * * *", "'60' is no step of the minute: write 1 to 59"),
            ("*/5/5 * * * *", "'5/5' is no step of the minute: write 1 to 59"),
            ("5/15 * * * *", "'5/15' has a step but no range: write 5-59/15"),
            ("0 0 30 2 *", "'30 2' never comes: these months have no such day"),
            ("0 0 31 2,4-6/2 */2", "'31 2,4-6/2' never comes: these months have no such day"),
        ];
        for (text, want) in table {
            assert_eq!(Cron::parse(text), Err(want.to_owned()), "{text}");
        }
        let full = format!("{:>CRON_BYTES_MAX$}", "* * * * *");
        assert!(Cron::parse(&full).is_ok());
        assert!(Cron::parse(&format!("{full} ")).is_err());
        assert!(Cron::parse("0 0 30 2 1").is_ok(), "Mondays in February do come");
    }

    #[test]
    fn a_schedule_lasts_from_each_firing() {
        let table = [
            ("0 9 * * 1-5", "8h", "2026-06-01T06:59:59.999Z", false),
            ("0 9 * * 1-5", "8h", "2026-06-01T07:00:00Z", true),
            ("0 9 * * 1-5", "8h", "2026-06-01T14:59:59.999Z", true),
            ("0 9 * * 1-5", "8h", "2026-06-01T15:00:00Z", false),
            ("0 9 * * 1-5", "8h", "2026-06-06T08:00:00Z", false),
            ("30 * * * *", "1m", "2026-06-06T08:30:59.999Z", true),
            ("30 * * * *", "1m", "2026-06-06T08:31:00Z", false),
            // Over midnight, over the end of a month, and as long as may be.
            ("0 22 * * *", "4h", "2026-06-01T23:59:59Z", true),
            ("0 22 * * *", "4h", "2026-06-02T00:00:00Z", false),
            ("0 0 31 5 *", "31d", "2026-06-30T22:00:00Z", false),
            ("0 0 31 5 *", "31d", "2026-06-30T21:59:59.999Z", true),
            ("0 0 29 2 *", "1d", "2028-02-29T22:59:59Z", true),
            ("0 0 29 2 *", "1d", "2027-03-01T00:00:00Z", false),
        ];
        for (cron, lasts, now, want) in table {
            assert_eq!(scheduled(cron, lasts, "Europe/Berlin", now), want, "{cron} {lasts} {now}");
        }
    }

    #[test]
    fn a_schedule_follows_the_clock_over_its_changes() {
        let table = [
            // On 29 March 2026 the clock goes from 2:00 to 3:00: there is no 2:30.
            ("30 2 * * *", "1h", "Europe/Berlin", "2026-03-28T01:45:00Z", true),
            ("30 2 * * *", "1h", "Europe/Berlin", "2026-03-29T01:15:00Z", false),
            ("30 2 * * *", "1h", "Europe/Berlin", "2026-03-30T00:45:00Z", true),
            // What has begun lasts as long as ever.
            ("0 1 * * *", "3h", "Europe/Berlin", "2026-03-29T02:59:59.999Z", true),
            ("0 1 * * *", "3h", "Europe/Berlin", "2026-03-29T03:00:00Z", false),
            ("0 9 * * 6", "2d", "Europe/Berlin", "2026-03-30T07:59:59.999Z", true),
            ("0 9 * * 6", "2d", "Europe/Berlin", "2026-03-30T08:00:00Z", false),
            // On 25 October 2026 it goes from 3:00 to 2:00: 2:30 comes twice.
            ("30 2 * * *", "10m", "Europe/Berlin", "2026-10-25T00:35:00Z", true),
            ("30 2 * * *", "10m", "Europe/Berlin", "2026-10-25T00:45:00Z", false),
            ("30 2 * * *", "10m", "Europe/Berlin", "2026-10-25T01:35:00Z", true),
            ("0 9 * * 6", "2d", "Europe/Berlin", "2026-10-26T06:59:59.999Z", true),
            ("0 9 * * 6", "2d", "Europe/Berlin", "2026-10-26T07:00:00Z", false),
            // On 4 October 2026 it goes from 2:00 to 2:30.
            ("45 1 * * *", "1h", "Australia/Lord_Howe", "2026-10-03T15:40:00Z", true),
            ("45 1 * * *", "1h", "Australia/Lord_Howe", "2026-10-03T16:15:00Z", false),
        ];
        for (cron, lasts, zone, now, want) in table {
            assert_eq!(scheduled(cron, lasts, zone, now), want, "{cron} {lasts} {now}");
        }
    }

    #[test]
    fn a_zone_of_its_own_comes_before_the_one_handed_in() {
        let now = time("2026-06-01T07:30:00Z");
        let schedules = json!([{"cron": "0 9 * * *", "lasts": "1h"}]);
        let named = read(json!({"schedules": schedules, "zone": "europe/berlin"}));
        let unnamed = read(json!({"schedules": schedules}));

        assert!(named.hold_at(now, &TimeZone::UTC));
        assert!(!unnamed.hold_at(now, &TimeZone::UTC));
        assert!(unnamed.hold_at(now, &berlin()));
    }

    #[test]
    fn what_cannot_be_read_never_holds() {
        let always = Schedule { cron: "* * * * *".to_owned().into(), lasts_ms: u64::MAX };
        let broken = Schedule { cron: "often".to_owned().into(), lasts_ms: u64::MAX };
        let never = Schedule { cron: "* * * * *".to_owned().into(), lasts_ms: 0 };
        let leap = Schedule { cron: "0 0 29 2 *".to_owned().into(), lasts_ms: u64::MAX };
        let nowhere = Some("Nowhere/At_All".to_owned());
        let table = [
            (always.clone(), None, 0, true),
            (always.clone(), nowhere, 0, false),
            (always, None, u64::MAX, false),
            (broken, None, 0, false),
            (never, None, 0, false),
            (leap.clone(), None, 0, false),
            (leap, None, time("2026-01-01T00:00:00Z").unix_ms(), false),
        ];
        for (schedule, zone, now, want) in table {
            let bounds = Bounds { schedules: vec![schedule], zone, ..Bounds::default() };
            let holds = bounds.hold_at(Timestamp::from_ms(now), &TimeZone::UTC);
            assert_eq!(holds, want, "{bounds:?} at {now}");
        }
    }

    #[test]
    fn spans_of_time_are_read_with_their_unit() {
        let table = [
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("30d", Some(2_592_000_000)),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("5\u{e4}", None),
            ("999999999999999999d", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_duration_ms(text), want, "{text}");
        }
    }

    /// A field of an expression, as parts of a first, a last and a step.
    #[derive(Clone, Debug)]
    struct Parts {
        text: String,
        star: bool,
        parts: Vec<(i8, i8, i8)>,
    }

    impl Parts {
        fn has(&self, value: i8) -> bool {
            self.parts.iter().any(|(first, last, step)| {
                (*first..=*last).contains(&value) && (value - *first) % *step == 0
            })
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,150}", like in "[-0-9*/,a-z +]{0,150}") {
            for text in [text, like] {
                let _ = Cron::parse(&text);
                let _ = parse_duration_ms(&text);
                let _ = Bounds::from_json(&json!({
                    "times": [{"from": text, "until": text}],
                    "schedules": [{"cron": text, "lasts": text}],
                    "zone": text,
                    "area": {"attribute": text, "min": text, "max": {"x": text}},
                }));
                let _ = Bounds::from_json(&json!({ (text): [] }));
            }
        }

        #[test]
        fn no_five_fields_make_the_look_back_panic(
            text in "([-0-9*/,]{1,8} ){4}[-0-9*/,]{1,8}",
            now in any::<u64>(),
            lasts_ms in any::<u64>(),
        ) {
            let schedules = vec![Schedule { cron: text.into(), lasts_ms }];
            let bounds = Bounds { schedules, ..Bounds::default() };
            let _ = bounds.hold_at(Timestamp::from_ms(now), &berlin());
            let _ = bounds.hold_at(Timestamp::from_ms(now % 10_000_000_000_000), &berlin());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn firing_agrees_with_a_slow_look_at_every_minute(
            minute in parts(0, 59, 59),
            hour in parts(0, 23, 23),
            // Every month has these days.
            day in parts(1, 28, 31),
            month in parts(1, 12, 12),
            weekday in parts(0, 7, 7),
            spring in any::<bool>(),
            lasts in 1..4_320_usize,
            places in prop::collection::vec((4_320..10_080_usize, 0..60_000_u64), 1..40),
        ) {
            // The clock is changed in both weeks.
            let start = time(if spring { "2026-03-26T00:00:00Z" } else { "2026-10-22T00:00:00Z" });
            let fields = [&minute, &hour, &day, &month, &weekday];
            let text = fields.map(|field| field.text.as_str()).join(" ");
            let cron = Cron::parse(&text).unwrap();
            let zone = berlin();
            let mut fired = Vec::new();
            for number in 0..10_080 {
                let at = zoned(start.after_ms(number * MINUTE_MS), &zone);
                let on_day = day.has(at.day());
                let sunday_zero = at.weekday().to_sunday_zero_offset();
                let on_weekday = weekday.has(sunday_zero) || (sunday_zero == 0 && weekday.has(7));
                let either = !day.star && !weekday.star;
                let fires = minute.has(at.minute())
                    && hour.has(at.hour())
                    && month.has(at.month())
                    && if either { on_day || on_weekday } else { on_day && on_weekday };
                prop_assert_eq!(cron.matches(&at), fires, "{} at {}", text, at);
                fired.push(fires);
            }

            let lasts_ms = u64::try_from(lasts).unwrap() * MINUTE_MS;
            let schedules = vec![Schedule { cron: text.into(), lasts_ms }];
            let bounds = Bounds { schedules, ..Bounds::default() };
            for (place, past_ms) in places {
                let now = start.after_ms(u64::try_from(place).unwrap() * MINUTE_MS + past_ms);
                let want = fired[place + 1 - lasts..=place].contains(&true);
                prop_assert_eq!(bounds.hold_at(now, &zone), want, "{:?} at {}", bounds, now);
            }
        }
    }

    /// A star, or a list of parts from `first` to `last`. The field itself ends at `end`.
    fn parts(first: i8, last: i8, end: i8) -> impl Strategy<Value = Parts> {
        let star = (1..=6_i8).prop_map(move |step| {
            let text = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
            Parts { text, star: true, parts: vec![(first, end, step)] }
        });
        let part = (first..=last, first..=last, 1..=6_i8)
            .prop_map(|(one, other, step)| (one.min(other), one.max(other), step));
        let listed = prop::collection::vec(part, 1..4).prop_map(|parts| {
            let texts: Vec<String> = parts
                .iter()
                .map(|(first, last, step)| match (first == last, *step == 1) {
                    (true, _) => format!("{first}"),
                    (false, true) => format!("{first}-{last}"),
                    (false, false) => format!("{first}-{last}/{step}"),
                })
                .collect();
            Parts { text: texts.join(","), star: false, parts }
        });
        prop_oneof![star, listed]
    }

    fn read(json: Json) -> Bounds {
        Bounds::from_json(&json).unwrap()
    }

    fn scheduled(cron: &str, lasts: &str, zone: &str, now: &str) -> bool {
        let bounds = read(json!({"schedules": [{"cron": cron, "lasts": lasts}], "zone": zone}));
        bounds.hold_at(time(now), &TimeZone::UTC)
    }

    fn time(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_ms(u64::try_from(moment.as_millisecond()).unwrap())
    }

    fn zoned(at: Timestamp, zone: &TimeZone) -> jiff::Zoned {
        let ms = i64::try_from(at.unix_ms()).unwrap();
        jiff::Timestamp::from_millisecond(ms).unwrap().to_zoned(zone.clone())
    }

    fn berlin() -> TimeZone {
        zone_named("Europe/Berlin").unwrap()
    }
}
