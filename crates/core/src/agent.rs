//! The agents that are known by name, and how each is started so that nobody has to be asked.

/// An agent with a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
}

impl Agent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Claude, Self::Codex, Self::Gemini];

    /// Its name here, which is also that of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
        }
    }

    /// The agent of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|agent| agent.name() == name)
    }

    /// The arguments of its program: to work on `prompt` and end, or without one to talk with whoever has its terminal.
    ///
    /// `is_walled`: walls stand around it, so that it need ask nobody before it acts. Codex would put a sandbox of its own into
    /// them, where none can be made.
    pub fn arguments(self, prompt: Option<&str>, is_walled: bool) -> Vec<String> {
        let (free, batch): (&[&str], &[&str]) = match self {
            Self::Claude => (&["--dangerously-skip-permissions"], &["-p"]),
            Self::Codex => (&["--dangerously-bypass-approvals-and-sandbox"], &[]),
            Self::Gemini => (&["--yolo"], &["-p"]),
        };
        let first: &[&str] = match self {
            Self::Codex if prompt.is_some() => &["exec"],
            // Whoever starts it somewhere trusts the place.
            Self::Gemini => &["--skip-trust"],
            Self::Claude | Self::Codex => &[],
        };
        let free = if is_walled { free } else { &[] };
        let batch = if prompt.is_some() { batch } else { &[] };
        first.iter().chain(free).chain(batch).copied().chain(prompt).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_started_as_its_own_documentation_says() {
        for (agent, prompt, is_walled, line) in [
            (Agent::Claude, Some("Fix"), true, "--dangerously-skip-permissions -p Fix"),
            (Agent::Claude, None, true, "--dangerously-skip-permissions"),
            (Agent::Claude, Some("Fix"), false, "-p Fix"),
            (Agent::Claude, None, false, ""),
            (Agent::Codex, Some("Fix"), true, "exec --dangerously-bypass-approvals-and-sandbox Fix"),
            (Agent::Codex, None, true, "--dangerously-bypass-approvals-and-sandbox"),
            (Agent::Codex, Some("Fix"), false, "exec Fix"),
            (Agent::Gemini, Some("Fix"), true, "--skip-trust --yolo -p Fix"),
            (Agent::Gemini, None, true, "--skip-trust --yolo"),
            (Agent::Gemini, Some("Fix"), false, "--skip-trust -p Fix"),
        ] {
            assert_eq!(agent.arguments(prompt, is_walled).join(" "), line);
        }
        assert!(Agent::ALL.into_iter().all(|agent| Agent::parse(agent.name()) == Some(agent)));
    }
}
