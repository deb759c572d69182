//! Every command line that the documentation and the help show is one that this binary takes.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::cli::Cli;

#[test]
fn command_lines_in_code_blocks_parse() {
    let mut checked = 0;
    for (file, text) in pages() {
        for line in code_blocks(&text).flat_map(|block| command_lines(&block)) {
            let parsed = Cli::try_parse_from(&line);
            assert!(parsed.is_ok(), "{file}: {}: {}", line.join(" "), parsed.unwrap_err());
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} command lines were found");
}

#[test]
fn command_lines_in_sentences_name_commands_and_options_that_exist() {
    let mut checked = 0;
    for (file, text) in pages() {
        for line in spans(&text).iter().flat_map(|span| command_lines(span)) {
            let wrong = Cli::try_parse_from(&line).err().filter(|error| !is_shortened(error, &line));
            assert!(wrong.is_none(), "{file}: `{}`: {}", line.join(" "), wrong.unwrap());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} command lines were found");
}

#[test]
fn command_lines_in_the_help_parse() {
    let mut command = Cli::command();
    command.build();
    let mut checked = 0;
    for line in examples(&mut command).iter().flat_map(|text| command_lines(text)) {
        let parsed = Cli::try_parse_from(&line);
        assert!(parsed.is_ok(), "{}: {}", line.join(" "), parsed.unwrap_err());
        checked += 1;
    }
    assert!(checked > 50, "only {checked} command lines were found");
}

#[test]
fn every_command_is_in_the_reference() {
    let (_, reference) = pages().find(|(file, _)| file == "cli.md").unwrap();
    let first_cells: Vec<&str> =
        reference.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    let words = |cell: &&str| cell.split(['`', ' ', ',']).map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = first_cells.iter().map(words).collect();
    let named = |names: &[&str]| rows.iter().any(|row| names.iter().all(|name| row.iter().any(|word| word == name)));
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        assert!(named(&[command.get_name()]), "{} is not in docs/cli.md", command.get_name());
        for below in command.get_subcommands() {
            let both = [command.get_name(), below.get_name()];
            assert!(named(&both), "{} is not in docs/cli.md", both.join(" "));
        }
    }
}

#[test]
fn options_in_the_reference_exist() {
    let (_, reference) = pages().find(|(file, _)| file == "cli.md").unwrap();
    let mut top = Cli::command();
    top.build();
    let mut checked = 0;
    for row in reference.lines().filter(|line| line.starts_with("| `")) {
        let words = || row.split(|c: char| c.is_whitespace() || "`[]|…".contains(c));
        let Some(command) = words().find_map(|word| top.find_subcommand(word)) else { continue };
        for flag in words().filter(|word| word.starts_with('-') && word.len() > 2) {
            assert!(has_option(command, flag), "{} has no {flag}: {row}", command.get_name());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} options were found");
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    let read = |text: &str| command_lines(text).iter().map(|line| line.join("|")).collect::<Vec<_>>();
    assert_eq!(read("A=1 clauderon run -- x 'a  b' \"c)\"  # why"), ["clauderon|run|--|x|a  b|c)"]);
    assert_eq!(read("eval \"$(clauderon env n)\" && clauderon list | jq ."), ["clauderon|env|n", "clauderon|list"]);
    assert_eq!(read("clauderon explain POST u \\\n  -d '{}' > f"), ["clauderon|explain|POST|u|-d|{}"]);
    assert_eq!(read("clauderon stop --all            and so on"), ["clauderon|stop|--all"]);
    assert!(read("~/.clauderon/x, clauderon: no, clauderon (bin), git log clauderon/x").is_empty());
}

/// Whether a command, or one below it, has this long option.
fn has_option(command: &clap::Command, flag: &str) -> bool {
    let is = |argument: &clap::Arg| argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    command.get_arguments().any(is) || command.get_subcommands().any(|below| has_option(below, flag))
}

/// The README and everything in `docs`.
fn pages() -> impl Iterator<Item = (String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> =
        listed.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name))).collect();
    files.into_iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(file).unwrap())
    })
}

/// The insides of fenced blocks (CommonMark § 4.5).
fn code_blocks(page: &str) -> impl Iterator<Item = String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        let fence = line.trim_start().starts_with("```");
        if fence && !inside {
            blocks.push(String::new());
        }
        inside ^= fence;
        if let Some(block) = blocks.last_mut().filter(|_| inside && !fence) {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks.into_iter()
}

/// The code spans outside of fenced blocks.
fn spans(page: &str) -> Vec<String> {
    let blocks: Vec<String> = code_blocks(page).collect();
    let prose = blocks.iter().fold(page.to_owned(), |prose, block| prose.replacen(block.as_str(), "", 1));
    let prose = prose.replace("```", "").replace("\\|", "|");
    prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// Whether a sentence only left out what is not its point, or wrote a word in capitals for a value.
fn is_shortened(error: &clap::Error, line: &[String]) -> bool {
    let stands_for_a_value = |word: &String| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayHelp => true,
        ErrorKind::InvalidValue | ErrorKind::InvalidSubcommand => line.iter().any(stands_for_a_value),
        _ => false,
    }
}

/// The examples of every page of help.
fn examples(command: &mut clap::Command) -> Vec<String> {
    let page = command.render_long_help().to_string();
    let own = page.split("Examples:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).map(str::to_owned);
    own.into_iter().chain(command.get_subcommands_mut().flat_map(examples)).collect()
}

/// What stands after each `clauderon` that begins a command.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let text = join_continued(text);
    let starts = text.match_indices("clauderon ").filter(|(at, _)| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at + "clauderon ".len()..).and_then(|after| after.chars().next());
        let word = !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
        word && after.is_some_and(|c| c.is_ascii_alphabetic() || c == '-')
    });
    let lines = starts.map(|(at, _)| (text.get(..at).unwrap_or_default(), text.get(at..).unwrap_or_default()));
    lines
        .map(|(before, line)| {
            words(if before.ends_with('"') { line.split('"').next().unwrap_or_default() } else { line })
        })
        .collect()
}

/// The text with lines that end in a backslash joined to the next one.
fn join_continued(text: &str) -> String {
    text.lines().fold(String::new(), |joined, line| match joined.strip_suffix('\\') {
        Some(begun) => format!("{} {}", begun.trim_end(), line.trim_start()),
        None => format!("{joined}\n{line}"),
    })
}

/// The words of one simple command (POSIX shell § 2.2, § 2.9.1). Two blanks or a `#` end it: a remark follows.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut blanks = 0;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                words.extend(word.take());
                blanks += 1;
                if blanks > 1 {
                    break;
                }
                continue;
            }
            (None, '\n' | '&' | '|' | ';' | '>' | ')' | '`') => break,
            (None, '#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(c),
        }
        blanks = 0;
    }
    words.extend(word);
    words
}
