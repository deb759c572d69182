//! The command line: one definition from which parsing, help and completions come.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clauderon_core::catalogue::READY;

use crate::examples;

/// The credential proxy for AI coding agents
///
/// A daemon holds your real credentials and is the way out for AI coding agents. Agents hold placeholders; the daemon
/// puts the real credential in on the way to its own service, and writes every request down.
#[derive(Debug, Parser)]
#[command(name = "clauderon", version, max_term_width = 100, arg_required_else_help = true)]
#[command(before_long_help = examples::TOP, after_help = examples::MORE, after_long_help = examples::CONTRACT)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    #[command(before_long_help = examples::DAEMON)]
    Daemon(DaemonArgs),
    /// Create a session for an agent, for a command, or for your own shell
    #[command(before_long_help = examples::CREATE)]
    Create(CreateArgs),
    /// Run a command in a session of its own that ends with it
    #[command(before_long_help = examples::RUN, override_usage = "clauderon run [OPTIONS] -- <CMD>...\n       clauderon run [OPTIONS] --agent <AGENT>")]
    Run(RunArgs),
    /// List sessions
    #[command(visible_alias = "ls", before_long_help = examples::LIST)]
    List(Format),
    /// Print a session's environment, for a shell to evaluate
    #[command(before_long_help = examples::ENV)]
    Env(EnvArgs),
    /// Run a command with the environment of an existing session
    #[command(before_long_help = examples::EXEC, override_usage = "clauderon exec <NAME> -- <CMD>...")]
    Exec(ExecArgs),
    /// Switch a session between read-only and read-write, from its next request on
    #[command(before_long_help = examples::SET_ACCESS_MODE)]
    SetAccessMode(SetAccessModeArgs),
    /// Stop a session's process and end its access
    #[command(before_long_help = examples::STOP)]
    Stop(Names),
    /// Delete a session; its tokens and placeholders end at once
    #[command(visible_alias = "rm", before_long_help = examples::DELETE)]
    Delete(Names),
    /// Give a session's terminal your own; ctrl-p ctrl-q leaves it running
    #[command(before_long_help = examples::ATTACH)]
    Attach(OfSession),
    /// Show what a session has changed in its copy of the repository
    #[command(before_long_help = examples::DIFF)]
    Diff(OfSession),
    /// Bring the commits of a session's copy into your repository, as branch `clauderon/NAME`
    #[command(before_long_help = examples::FETCH)]
    Fetch(OfSession),
    /// Print what a session's process wrote
    #[command(before_long_help = examples::LOGS)]
    Logs(LogsArgs),
    /// Resolve all 1Password references now, with one approval
    #[command(before_long_help = examples::UNLOCK)]
    Unlock(UnlockArgs),
    /// Look at credentials and configuration
    #[command(subcommand, before_long_help = examples::CONFIG)]
    Config(ConfigCommand),
    /// Read and verify the audit log
    #[command(subcommand, before_long_help = examples::AUDIT)]
    Audit(AuditCommand),
    /// Look at the certificate authority that sessions trust
    #[command(subcommand, before_long_help = examples::CA)]
    Ca(CaCommand),
    /// Tell what would happen to a request, without sending it
    #[command(before_long_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Look for what keeps clauderon or a tool from working on this machine, and say what to do
    #[command(before_long_help = examples::DOCTOR)]
    Doctor(Format),
    /// Show the whole path on a stand-in origin: no account, no network
    #[command(before_long_help = examples::DEMO)]
    Demo,
    /// Become a stage of a sandbox; started by `run`, `exec` and the daemon
    #[command(hide = true)]
    SandboxInit(SandboxInitArgs),
    /// Put up a container and stay with it; started by `run`, `exec` and the daemon
    #[command(hide = true)]
    ContainerLaunch(ContainerLaunchArgs),
    /// Become the first process of a container, or its agent; started by the engine
    #[command(hide = true)]
    ContainerInit(ContainerInitArgs),
    /// Print a completion script
    #[command(before_long_help = examples::COMPLETIONS)]
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `daemon`.
#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Port of the proxy, the API and the dashboard; 0 picks a free one and prints it [default: `http_port`, or 3030]
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// Address to listen on [default: `CLAUDERON_BIND_ADDR`, `bind`, or 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<IpAddr>,
    /// Leave the terminal; for the daemon that `create` and `run` start
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// What every new session can be told.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// Name of the session: a-z, 0-9, `-`, `_`, `.`
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the session may do
    #[arg(long, value_name = "MODE", default_value = "read-write")]
    pub(crate) access_mode: Mode,
    /// How the session is kept apart from the rest of the machine: `sandbox`, `docker` and `podman` leave it no way out but
    /// the proxy, `local` does not isolate
    #[arg(long, default_value = "sandbox")]
    pub(crate) backend: Backend,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// A credential the session may use, repeatable; without any, all of them; `none` for none
    #[arg(long = "credential", value_name = "NAME")]
    pub(crate) credentials: Vec<String>,
    /// A host the session may reach, repeatable; without any, all of them; `none` for none
    #[arg(long = "allow-host", value_name = "HOST")]
    pub(crate) allow_hosts: Vec<String>,
    /// A port of this machine's loopback that the session shall reach at 127.0.0.1, repeatable; what passes is not looked at
    #[arg(long = "forward", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) forwards: Vec<u16>,
}

/// The container of a session, for `--backend docker` and `podman`.
#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// The image to run in; it needs nothing but the programs that the session uses
    #[arg(long, help_heading = CONTAINERS, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// When the engine pulls the image [default: missing]
    #[arg(long, help_heading = CONTAINERS, value_name = "WHEN", requires = "image")]
    pub(crate) pull_policy: Option<PullPolicy>,
    /// Processors that a container may use, as `1.5`
    #[arg(long, help_heading = CONTAINERS, value_name = "N", requires = "image")]
    pub(crate) cpus: Option<f64>,
    /// Memory that a container may use, as `512m` or `2g`; no swap besides
    #[arg(long, help_heading = CONTAINERS, value_name = "BYTES", requires = "image", value_parser = size)]
    pub(crate) memory: Option<u64>,
}

const CONTAINERS: &str = "Containers (--backend docker, podman)";

/// A number of bytes, as container engines take it: `b`, `k`, `m` and `g` are powers of 1024.
fn size(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower.strip_prefix(digits) {
        Some("" | "b") => 1,
        Some("k" | "kb" | "kib") => 1 << 10,
        Some("m" | "mb" | "mib") => 1 << 20,
        Some("g" | "gb" | "gib") => 1 << 30,
        _ => return Err(NO_SIZE),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(NO_SIZE)
}

const NO_SIZE: &str = "write it as `512m` or `2g`";

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// When the engine does not have it
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}

/// `container-launch`.
#[derive(Debug, Args)]
pub(crate) struct ContainerLaunchArgs {
    /// The file that describes the container; it is removed
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Tell on standard output whether the command runs
    #[arg(long)]
    pub(crate) report: bool,
    /// The process whose end is also the container's
    #[arg(long, value_name = "PID")]
    pub(crate) owner: Option<u32>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `container-init`.
#[derive(Debug, Args)]
pub(crate) struct ContainerInitArgs {
    /// The stage, when this is not the first
    #[arg(long)]
    pub(crate) stage: Option<SandboxStage>,
    /// Take over standard input as the terminal
    #[arg(long)]
    pub(crate) terminal: bool,
    /// Descriptor of the order
    #[arg(long, value_name = "FD", default_value_t = -1)]
    pub(crate) plan_fd: i32,
    /// Descriptor that failures are told to
    #[arg(long, value_name = "FD", default_value_t = -1)]
    pub(crate) status_fd: i32,
}

/// `sandbox-init`.
#[derive(Debug, Args)]
pub(crate) struct SandboxInitArgs {
    /// The file that describes the sandbox; it is removed
    #[arg(long, value_name = "FILE", required_unless_present = "stage")]
    pub(crate) plan: Option<PathBuf>,
    /// Tell on standard output whether the sandbox is armed
    #[arg(long)]
    pub(crate) report: bool,
    /// The process whose end is also the sandbox's
    #[arg(long, value_name = "PID")]
    pub(crate) owner: Option<u32>,
    /// The stage, when this is not the first
    #[arg(long)]
    pub(crate) stage: Option<SandboxStage>,
    /// Descriptor of the plan
    #[arg(long, value_name = "FD", default_value_t = -1)]
    pub(crate) plan_fd: i32,
    /// Descriptor that failures are told to
    #[arg(long, value_name = "FD", default_value_t = -1)]
    pub(crate) status_fd: i32,
    /// Descriptor that ends with the launcher
    #[arg(long, value_name = "FD")]
    pub(crate) lifeline_fd: Option<i32>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// The later stages of a sandbox's launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxStage {
    /// The first process inside
    Init,
    /// What becomes the command
    Agent,
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// The repository to work on
    #[arg(long, value_name = "PATH")]
    pub(crate) repo: Option<PathBuf>,
    /// Go on although the repository has changes that are not committed; the session's copy leaves them out
    #[arg(long, requires = "repo")]
    pub(crate) allow_dirty: bool,
    /// What the agent shall do; without it, it waits at the session's own terminal for `attach`
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// The agent to start [default: claude]
    #[arg(long, conflicts_with_all = ["no_agent", "command"])]
    pub(crate) agent: Option<Agent>,
    /// Print what it writes, and end with its exit code
    #[arg(long, conflicts_with_all = ["no_agent", "json"])]
    pub(crate) print: bool,
    /// No process of its own: a session for `env`, `exec` and your own shell
    #[arg(long, conflicts_with = "command")]
    pub(crate) no_agent: bool,
    #[command(flatten)]
    pub(crate) format: Format,
    /// A command to start instead of an agent
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// An agent to run instead of a command
    #[arg(long, conflicts_with = "command")]
    pub(crate) agent: Option<Agent>,
    /// What the agent shall do; without it, it asks at your terminal
    #[arg(long, value_name = "TEXT", requires = "agent", conflicts_with = "command")]
    pub(crate) prompt: Option<String>,
    /// The command and its arguments
    #[arg(required_unless_present = "agent", trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// What a command in a sandbox or container may do where it stands.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PlaceArgs {
    /// Let a command in a sandbox or container change the current directory, but for what runs on your machine later (`.git`
    /// and such)
    #[arg(long)]
    pub(crate) writable: bool,
}

/// `env`.
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// The session
    pub(crate) name: String,
    /// How to print the variables
    #[arg(long, value_enum, default_value_t = EnvFormat::Shell)]
    pub(crate) format: EnvFormat,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The session
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `set-access-mode`.
#[derive(Debug, Args)]
pub(crate) struct SetAccessModeArgs {
    /// The session
    pub(crate) name: String,
    /// What it may do
    pub(crate) mode: Mode,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `stop` and `delete`.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// The sessions
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `attach`, `diff` and `fetch`.
#[derive(Debug, Args)]
pub(crate) struct OfSession {
    /// The session
    pub(crate) name: String,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The session
    pub(crate) name: String,
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// `unlock`.
#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// Only these credentials; without any, all that come from 1Password
    #[arg(value_name = "CREDENTIAL")]
    pub(crate) credentials: Vec<String>,
    /// Read those again that the daemon holds already
    #[arg(long)]
    pub(crate) again: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `config credentials`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CredentialsArgs {
    /// Read every 1Password reference first, which may ask you to approve it
    #[arg(long)]
    pub(crate) test: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every credential: its source, where it may go, and what is wrong; never its value
    #[command(before_long_help = examples::CONFIG_CREDENTIALS)]
    Credentials(CredentialsArgs),
    /// Show the settings in force and where each comes from
    Show(Format),
    /// Show where files are
    Paths(Format),
    /// Check `proxy.toml` and all it names, without starting anything
    Check(Format),
    /// Write a commented `proxy.toml`; never overwrites one
    Init,
    /// Add a ready entry for a service's credential to `proxy.toml`
    #[command(before_long_help = examples::CONFIG_ADD)]
    Add(ConfigAdd),
}

/// `config add`.
#[derive(Debug, Args)]
pub(crate) struct ConfigAdd {
    /// The service; `--list` shows all
    #[arg(required_unless_present = "list", value_parser = service_names())]
    pub(crate) name: Option<String>,
    /// Show the services there are entries for
    #[arg(long, conflicts_with_all = ["name", "host", "user"])]
    pub(crate) list: bool,
    /// Where the token goes, instead of the service's own host; repeatable
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// The account that the token belongs to, for services that want its name beside it
    #[arg(long)]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn service_names() -> PossibleValuesParser {
    PossibleValuesParser::new(READY.iter().map(|ready| PossibleValue::new(ready.name).help(ready.title)))
}

/// `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the newest requests
    #[command(before_long_help = examples::AUDIT_TAIL)]
    Tail(AuditTail),
    /// Print the requests that match every filter
    #[command(before_long_help = examples::AUDIT_QUERY)]
    Query(AuditQuery),
    /// Count requests by session and service
    Stats(AuditStats),
    /// Check the hash chain of the log and its rotated files
    #[command(before_long_help = examples::AUDIT_VERIFY)]
    Verify(Format),
}

/// `audit tail`.
#[derive(Debug, Args)]
pub(crate) struct AuditTail {
    /// How many requests to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) lines: usize,
    /// Go on as more are recorded, through rotation
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `audit query`.
#[derive(Debug, Default, Args)]
pub(crate) struct AuditQuery {
    /// Only this session, by name or id
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// Only this service (`github`) or host
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Only this method
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Only refused requests
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only placeholders seen where they do not belong
    #[arg(long)]
    pub(crate) alarms: bool,
    /// Only requests since then: `10m`, `2h`, `7d`, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = crate::since::parse)]
    pub(crate) since: Option<time::OffsetDateTime>,
    /// Only these statuses: `404`, `4xx`, `>=400`, `none`
    #[arg(long, value_parser = crate::status::Statuses::parse)]
    pub(crate) status: Option<crate::status::Statuses>,
    /// Print the log's own JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// `audit stats`.
#[derive(Debug, Args)]
pub(crate) struct AuditStats {
    /// Only requests since then: `10m`, `2h`, `7d`, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = crate::since::parse)]
    pub(crate) since: Option<time::OffsetDateTime>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `ca`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum CaCommand {
    /// Print the path of the certificate
    Path(Format),
    /// Describe the certificate
    Show(Format),
}

/// `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The method
    pub(crate) method: String,
    /// The absolute URL
    pub(crate) url: String,
    /// The session that would send it
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// A header field of the request, as curl takes it; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The request's body; @FILE reads it from a file
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `name: value`, as curl takes it.
fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it as \"name: value\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// An access mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// GET, HEAD, OPTIONS and the exceptions of `read_only.allow`
    ReadOnly,
    /// Every method
    ReadWrite,
}

/// How a session is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Linux namespaces: no network but the proxy, and only a view of the files
    Sandbox,
    /// A Docker container of `--image`: no network but the proxy
    Docker,
    /// A Podman container of `--image`: no network but the proxy
    Podman,
    /// A plain child process: no isolation
    Local,
}

impl Backend {
    /// Whether walls stand around what runs there.
    pub(crate) fn isolates(self) -> bool {
        self != Self::Local
    }
}

/// The agents that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Agent {
    /// Claude Code
    Claude,
    /// Codex
    Codex,
    /// Gemini CLI
    Gemini,
}

/// How `env` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvFormat {
    /// `export` and `unset` lines for sh, bash and zsh
    Shell,
    /// `NAME=value` lines for a dotenv file
    Dotenv,
    /// One object of name and value
    Json,
}

/// The name of a value as it is typed.
pub(crate) fn typed(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    /// Every page of help, the top first, then the commands in their order.
    fn pages(command: &mut clap::Command, path: &str) -> String {
        let mut text = format!("$ {path} --help\n{}\n", command.render_long_help());
        let names: Vec<String> =
            command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            let sub = command.find_subcommand_mut(name).unwrap();
            text += &pages(sub, &format!("{path} {name}"));
        }
        text
    }

    #[test]
    fn help_says_what_it_said() {
        let mut command = Cli::command().term_width(100).version("VERSION");
        command.build();
        insta::assert_snapshot!(pages(&mut command, "clauderon"));
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_command_lines_parse() {
        for line in [
            "clauderon daemon --http-port 0 --bind 127.0.0.1",
            "clauderon create --access-mode read-only --repo . --prompt review",
            "clauderon create --no-agent --name n --credential github --credential npm --allow-host a.b --backend local",
            "clauderon create --name n -- make test --all",
            "clauderon run --access-mode read-only -- curl -s --fail https://x",
            "clauderon run curl -s",
            "clauderon run --backend sandbox --writable --agent codex",
            "clauderon run --agent claude --prompt x",
            "clauderon exec n -- sh -c id",
            "clauderon run --backend sandbox --writable -- make",
            "clauderon run --backend podman --image alpine --cpus 1.5 --memory 512m --pull-policy never -- make",
            "clauderon create --backend docker --image node:24 --repo . --prompt review",
            "clauderon create --backend sandbox --repo . --allow-dirty -- make",
            "clauderon run --backend sandbox --forward 5432 --forward 6379 -- make",
            "clauderon attach n",
            "clauderon fetch n",
            "clauderon doctor --json",
            "clauderon env n --format dotenv",
            "clauderon set-access-mode n read-only",
            "clauderon logs -f n",
            "clauderon config credentials --test --json",
            "clauderon unlock github npm --again --json",
            "clauderon audit tail -f -n 3",
            "clauderon audit query --session n --service github --method GET --denied --alarms --since 2h --status 4xx --json",
            "clauderon ca path",
            "clauderon explain GET https://x --session n --header a:b -H c:d --data x --json",
            "clauderon completions zsh",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "clauderon attach",
            "clauderon create --agent claude --no-agent",
            "clauderon create --no-agent -- make",
            "clauderon create --backend vm",
            "clauderon run --backend docker --memory 2g -- x",
            "clauderon run --backend docker --image x --memory -1 -- x",
            "clauderon run --backend docker --image x --memory much -- x",
            "clauderon run --backend docker --image x --pull-policy often -- x",
            "clauderon run",
            "clauderon run --forward 0 -- x",
            "clauderon run --agent codex -- x",
            "clauderon run --prompt x -- y",
            "clauderon run --acess-mode read-only -- x",
            "clauderon exec n",
            "clauderon set-access-mode n none",
            "clauderon audit query --since soon",
            "clauderon daemon --http-port 70000",
            "clauderon daemon --bind localhost",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
        assert_eq!(parse("clauderon --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let Ok(Command::Run(args)) = parse("clauderon run --name n curl --name x -- y") else { panic!("run") };
        assert_eq!(args.session.name.as_deref(), Some("n"));
        assert_eq!(args.command, ["curl", "--name", "x", "--", "y"]);
    }

    #[test]
    fn sizes_are_those_of_container_engines() {
        for (text, bytes) in [("7", 7), ("64k", 65536), ("512m", 1 << 29), ("2G", 2 << 30), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "1.5g", "-1", "2t", "99999999999999999999g", "2 g"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_named_as_everywhere() {
        for mode in [Mode::ReadOnly, Mode::ReadWrite] {
            typed(&mode).parse::<clauderon_core::access::AccessMode>().unwrap();
        }
    }
}
