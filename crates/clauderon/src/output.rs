//! The only printer: data to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table as Layout, presets};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;

use crate::error::{CliError, OutputError, Result};

/// Prints one line of data.
pub(crate) fn line(text: impl Display) -> Result {
    writeln!(anstream::stdout(), "{text}").map_err(closed)
}

/// Prints bytes as they are, piece by piece.
pub(crate) struct Raw {
    /// What a session wrote is hostile: a terminal gets its text, never its escape sequences.
    strip: Option<anstream::adapter::StripBytes>,
}

impl Raw {
    /// To standard output.
    pub(crate) fn new() -> Self {
        Self { strip: io::stdout().is_terminal().then(Default::default) }
    }

    /// Prints one piece.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result {
        let mut out = io::stdout().lock();
        let written = match &mut self.strip {
            Some(strip) => strip.strip_next(data).try_for_each(|text| out.write_all(text)),
            None => out.write_all(data),
        };
        written.and_then(|()| out.flush()).map_err(closed)
    }
}

/// Prints bytes to a terminal that is given to somebody else: escape sequences are what they are there for.
pub(crate) fn bytes(data: &[u8]) -> Result {
    let mut out = io::stdout().lock();
    out.write_all(data).and_then(|()| out.flush()).map_err(closed)
}

/// Prints data as one JSON document.
pub(crate) fn json(data: &impl Serialize) -> Result {
    line(serde_json::to_string_pretty(data)?)
}

/// Prints a table, fitted to the terminal if there is one.
pub(crate) fn table(table: &Table) -> Result {
    table.render(terminal_width()).iter().try_for_each(line)
}

/// Prints labelled values, one a line.
pub(crate) fn members(members: &[(&str, String)]) -> Result {
    let width = members.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    members.iter().try_for_each(|(label, value)| line(format_args!("  {label:width$}  {}", plain(value))))
}

/// Tells something on standard error.
pub(crate) fn note(text: impl Display) {
    tell(text);
}

/// Warns on standard error.
pub(crate) fn warning(text: impl Display) {
    tell(format_args!("{} {text}", "warning:".yellow().bold()));
}

/// Adds what to do next on standard error.
pub(crate) fn hint(text: impl Display) {
    tell(format_args!("{} {text}", "hint:".cyan().bold()));
}

/// Explains a failure on standard error: what happened, why, what to do next.
pub(crate) fn error(error: &CliError) {
    let messages = error.messages();
    for (depth, message) in messages.iter().enumerate() {
        match depth {
            0 => tell(format_args!("{} {}", "error:".red().bold(), indented(message))),
            _ => tell(format_args!("  {} {}", "caused by:".red(), indented(message))),
        }
    }
    error.hints().iter().for_each(|text| hint(plain(text)));
}

/// Several lines of a message, set off from what follows.
fn indented(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n    ")
}

/// The text with control characters spelled out, so that what an agent or origin wrote cannot steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() || is_bidi_control(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<(Tone, Vec<String>)>,
}

/// What a row's colour says besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing.
    Plain,
    /// In order.
    Good,
    /// Worth a look.
    Warn,
    /// Refused or failed.
    Bad,
    /// Of little interest.
    Dim,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Self { header: header.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        self.rows.push((tone, cells.into_iter().map(|cell| plain(&cell)).collect()));
    }

    /// The lines, for a terminal `width` columns wide or for no terminal at all.
    fn render(&self, width: Option<u16>) -> Vec<String> {
        let natural = self.layout(None);
        match width {
            Some(width) if natural.iter().any(|line| line.chars().count() > usize::from(width)) => self.squeezed(width),
            _ => self.coloured(natural),
        }
    }

    fn squeezed(&self, width: u16) -> Vec<String> {
        let columns = u16::try_from(self.header.len()).unwrap_or(u16::MAX).max(1);
        match width / columns {
            // Narrower columns would break every word: one block per row reads better.
            ..MIN_COLUMN => self.blocks(),
            _ => self.layout(Some(width)),
        }
    }

    fn layout(&self, width: Option<u16>) -> Vec<String> {
        let mut layout = Layout::new();
        layout.load_style(presets::NOTHING).set_header(self.header.iter().map(|title| title.to_uppercase()));
        layout.add_rows(self.rows.iter().map(|(_, cells)| cells));
        if let Some(width) = width {
            layout.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        layout.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Unwrapped lines stand in the order of the rows, below the header.
    fn coloured(&self, lines: Vec<String>) -> Vec<String> {
        let tones = std::iter::once(Style::new().bold()).chain(self.rows.iter().map(|(tone, _)| tone.ansi()));
        lines.into_iter().zip(tones).map(|(line, style)| line.style(style).to_string()).collect()
    }

    fn blocks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, (_, cells)) in self.rows.iter().enumerate() {
            if index > 0 {
                lines.push(String::new());
            }
            let members = self.header.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
            lines.extend(members.map(|(title, cell)| format!("{}: {cell}", title.bold())));
        }
        lines
    }
}

impl Tone {
    fn ansi(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => Style::new().green(),
            Self::Warn => Style::new().yellow(),
            Self::Bad => Style::new().red(),
            Self::Dim => Style::new().dimmed(),
        }
    }
}

/// `text` in a tone, for a line of its own.
pub(crate) fn toned(tone: Tone, text: &str) -> String {
    text.style(tone.ansi()).to_string()
}

/// `text` as a heading.
pub(crate) fn heading(text: &str) -> String {
    text.bold().to_string()
}

/// Nobody is left to tell that standard error is closed.
fn tell(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn closed(error: io::Error) -> CliError {
    OutputError(error).into()
}

fn terminal_width() -> Option<u16> {
    let out = io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Characters that reorder the text around them (Unicode TR9), and so could make a line read as another.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns narrower than this on average are given up for blocks.
const MIN_COLUMN: u16 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["name", "status", "mode"]);
        table.row(Tone::Good, ["review".into(), "running".into(), "read-only".into()]);
        table.row(Tone::Plain, ["a-much-longer-name".into(), String::new(), "read-write".into()]);
        table
    }

    fn bare(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_wide_table_has_one_line_per_row() {
        let lines = bare(&sample().render(Some(80)));
        assert_eq!(
            lines,
            [
                "NAME                STATUS   MODE",
                "review              running  read-only",
                "a-much-longer-name           read-write"
            ]
        );
        assert_eq!(bare(&sample().render(None)), lines);
    }

    #[test]
    fn a_narrow_table_fits_its_terminal() {
        let lines = bare(&sample().render(Some(36)));
        assert!(lines.iter().all(|line| line.chars().count() <= 36), "{lines:?}");
        assert!(lines.len() > 3, "{lines:?}");
    }

    #[test]
    fn a_very_narrow_table_becomes_blocks() {
        let lines = bare(&sample().render(Some(20)));
        assert_eq!(
            lines,
            ["name: review", "status: running", "mode: read-only", "", "name: a-much-longer-name", "mode: read-write"]
        );
    }

    #[test]
    fn hostile_text_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\u{9b}\u{202e}é"), "a\\u{1b}[2Jb\\u{d}\\u{9b}\\u{202e}é");
    }
}
