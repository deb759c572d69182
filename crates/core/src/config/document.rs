//! A TOML document read key by key, so that every mistake is found and none of the values is repeated in an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};
use super::suggest::suggestion;
use super::{GivenBy, keys};

/// What a value parser says: the value, or what is wrong with it, without repeating it.
pub(super) type Parsed<T> = Result<T, String>;

/// A parsed document, and what is known about it so far.
pub(super) struct Document<'i> {
    root: DeTable<'i>,
    report: Report,
}

/// Mistakes and given keys, collected while tables are read.
pub(super) struct Report {
    line_starts: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
    given: RefCell<BTreeMap<String, GivenBy>>,
}

/// One table of the document; every key that was never asked for is a mistake.
pub(super) struct Table<'d, 'i> {
    report: &'d Report,
    path: String,
    table: &'d DeTable<'i>,
    line: usize,
    asked: Vec<&'static str>,
}

impl<'i> Document<'i> {
    /// Parses `text`; syntax errors are noted and what could be read is kept.
    pub(super) fn parse(text: &'i str) -> Self {
        let (root, syntax) = DeTable::parse_recoverable(text);
        let line_starts =
            std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        let report =
            Report { line_starts: line_starts.collect(), errors: RefCell::default(), given: RefCell::default() };
        for error in syntax {
            report.error("", report.line(error.span().unwrap_or_default()), error.message().to_owned());
        }
        Self { root: root.into_inner(), report }
    }

    /// The top-level table.
    pub(super) fn root(&self) -> Table<'_, 'i> {
        Table { report: &self.report, path: String::new(), table: &self.root, line: 1, asked: Vec::new() }
    }

    /// The keys that were given, or all mistakes in the order of the file.
    pub(super) fn finish(self) -> Result<BTreeMap<String, GivenBy>, ConfigErrors> {
        let mut errors = self.report.errors.into_inner();
        // A half-read line would be reported a second time for what the reader made of it.
        let broken: Vec<usize> = errors.iter().filter(|e| e.key.is_empty()).map(|e| e.line).collect();
        errors.retain(|e| e.key.is_empty() || !broken.contains(&e.line));
        errors.sort_by_key(|error| error.line);
        errors.dedup();
        if errors.is_empty() { Ok(self.report.given.into_inner()) } else { Err(ConfigErrors(errors)) }
    }
}

impl Report {
    fn line(&self, span: Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start).max(1)
    }

    fn error(&self, key: &str, line: usize, message: String) {
        self.errors.borrow_mut().push(ConfigError { key: key.to_owned(), line, message });
    }

    fn given(&self, key: &str) {
        self.given.borrow_mut().insert(key.to_owned(), GivenBy::File);
    }
}

impl<'d, 'i> Table<'d, 'i> {
    /// A string, parsed; blank counts as absent.
    pub(super) fn string<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        self.value(key, "a string", |value| {
            let text = value.as_str()?;
            if text.trim().is_empty() { Some(Ok(None)) } else { Some(parse(text).map(Some)) }
        })?
    }

    /// A list of strings, each parsed; every bad element is reported.
    pub(super) fn strings<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> Option<Vec<T>> {
        let value = self.get(key)?;
        let path = self.path_of(key);
        self.report.given(&path);
        let Some(elements) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return None;
        };
        let parsed = elements.iter().enumerate().filter_map(|(at, element)| {
            let outcome = element.get_ref().as_str().map_or_else(|| Err(expected("a string", element)), &parse);
            let report =
                |message| self.report.error(&format!("{path}[{at}]"), self.report.line(element.span()), message);
            outcome.map_err(report).ok()
        });
        Some(parsed.collect())
    }

    /// An integer within `range`.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key, "an integer", |value| {
            let digits = value.as_integer()?;
            let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|n| range.contains(n));
            Some(number.ok_or_else(|| format!("must be {} to {}", range.start(), range.end())))
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.value(key, "`true` or `false`", |value| value.as_bool().map(Ok))
    }

    /// A sub-table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let value = self.get(key)?;
        let table = self.as_table(key, value)?;
        self.report.given(&self.path_of(key));
        Some(self.child(self.path_of(key), table, value))
    }

    /// The tables of an array of tables (`[[key]]`).
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(elements) = value.get_ref().as_array() else {
            self.wrong_type(key, value, &format!("`[[{key}]]` tables"));
            return Vec::new();
        };
        let each = elements.iter().enumerate().filter_map(|(at, element)| {
            let table = self.as_table(key, element)?;
            Some(self.child(format!("{}[{at}]", self.path_of(key)), table, element))
        });
        each.collect()
    }

    /// Hands every entry of a table whose keys are free to `read`: the entry's key, and the table to read it from.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Item<'d, 'i>)> {
        let (report, parent) = (self.report, self.path.clone());
        self.table.iter().map(move |(key, value)| {
            let item =
                Item { report, path: format!("{parent}.{}", key.get_ref()), line: report.line(key.span()), value };
            (key.get_ref().as_ref(), item)
        })
    }

    /// Reports a mistake about `key`, or about the table where the key is missing.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        let line = self.table.get(key).map_or(self.line, |value| self.report.line(value.span()));
        self.report.error(&self.path_of(key), line, message.into());
    }

    /// The text of `key`, without asking for it.
    pub(super) fn text(&self, key: &str) -> Option<&'d str> {
        self.table.get(key)?.get_ref().as_str()
    }

    /// The keys that were asked for so far.
    pub(super) fn asked(&self) -> &[&'static str] {
        &self.asked
    }

    /// Whether the file gives `key` something other than a blank text or an empty list.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).map(Spanned::get_ref).is_some_and(|value| match value {
            DeValue::String(text) => !text.trim().is_empty(),
            DeValue::Array(list) => !list.is_empty(),
            _ => true,
        })
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.asked.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let hint = suggestion(name, self.asked.iter().copied()).map_or_else(
                || keys::elsewhere(name).map_or_else(String::new, |place| format!("; did you mean {place}?")),
                |near| format!("; did you mean `{near}`?"),
            );
            self.report.error(&self.path_of(name), self.report.line(key.span()), format!("unknown key{hint}"));
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        kind: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<Parsed<T>>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let Some(outcome) = read(value.get_ref()) else {
            self.wrong_type(key, value, kind);
            return None;
        };
        self.report.given(&self.path_of(key));
        outcome.map_err(|message| self.error(key, message)).ok()
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'i>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn as_table(&self, key: &str, value: &'d Spanned<DeValue<'i>>) -> Option<&'d DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table");
        }
        table
    }

    fn child(&self, path: String, table: &'d DeTable<'i>, value: &Spanned<DeValue<'i>>) -> Self {
        Self { report: self.report, path, table, line: self.report.line(value.span()), asked: Vec::new() }
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'i>>, kind: &str) {
        self.report.error(&self.path_of(key), self.report.line(value.span()), expected(kind, value));
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// One entry of a table whose keys are free.
pub(super) struct Item<'d, 'i> {
    report: &'d Report,
    path: String,
    line: usize,
    value: &'d Spanned<DeValue<'i>>,
}

impl<'d, 'i> Item<'d, 'i> {
    /// The entry as a string, parsed; blank counts as absent.
    pub(super) fn string<T>(&self, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<T> {
        let Some(text) = self.value.get_ref().as_str() else {
            self.error(expected("a string", self.value));
            return None;
        };
        self.report.given(&self.path);
        if text.trim().is_empty() {
            return None;
        }
        parse(text).map_err(|message| self.error(message)).ok()
    }

    /// The entry as a table.
    pub(super) fn table(&self) -> Option<Table<'d, 'i>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.error(expected("a table", self.value));
            return None;
        };
        Some(Table { report: self.report, path: self.path.clone(), table, line: self.line, asked: Vec::new() })
    }

    /// Reports a mistake about this entry.
    pub(super) fn error(&self, message: impl Into<String>) {
        self.report.error(&self.path, self.line, message.into());
    }
}

fn expected(kind: &str, value: &Spanned<DeValue<'_>>) -> String {
    format!(
        "expected {kind}, found {}",
        match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "`true` or `false`",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    )
}
