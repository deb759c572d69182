//! The stages of a launch. Each is this program again, because each stands in other namespaces than the one before.
//!
//! 1. The launcher, on the host: opens what the plan shows, gives up root, enters new namespaces, builds the view, starts
//!    2 and stays for its end.
//! 2. The first process inside ([`crate::init`]): network, process table, relay. Starts 3 and stays.
//! 3. The agent ([`crate::agent`]): the inner user namespace, no capability, the filters; then becomes the command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::{MemfdFlags, Mode};
use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};
use rustix::thread::CapabilitySet;
use serde::de::DeserializeOwned;

use crate::error::{SandboxError, Step as _};
use crate::plan::Plan;
use crate::supervise::{self, Child};
use crate::terminal::{Outlet, Terminal};
use crate::{identity, namespaces, view};

/// How a launch is wanted.
pub struct Launch<'a> {
    /// The file that holds the plan; it is removed.
    pub plan: &'a Path,
    /// The program and its arguments.
    pub command: &'a [OsString],
    /// The process whose end is also the sandbox's.
    pub owner: Option<u32>,
    /// Whether the outcome of arming is told on standard output, for a program that waits for it; see [`Report`].
    pub report: bool,
}

/// What a launcher says about the arming of its sandbox: one JSON line on its standard output.
pub type Report = Result<(), SandboxError>;

/// Arms the sandbox, runs the command in it to its end, and gives the exit code.
pub fn launch(wanted: &Launch<'_>) -> Result<u8, SandboxError> {
    let armed = arm(wanted);
    if wanted.report {
        report(&armed.as_ref().map(|_| ()).map_err(Clone::clone));
    }
    supervise::until_end(armed?)
}

/// What a stage hands to the next.
pub struct Handed<'a> {
    /// The descriptor of the plan, in memory.
    pub plan: RawFd,
    /// The descriptor a failure to arm is told to; closing it without a word means success.
    pub status: RawFd,
    /// The descriptor that ends with the launcher; for the first process inside.
    pub lifeline: Option<RawFd>,
    /// The program and its arguments.
    pub command: &'a [OsString],
}

/// Begins the next stage in a new process with a clean environment.
pub(crate) fn next_stage(
    stage: &str,
    plan: &OwnedFd,
    status: &OwnedFd,
    lifeline: Option<&OwnedFd>,
    command: &[OsString],
) -> Result<Command, SandboxError> {
    let mut next = Command::new("/proc/self/exe");
    next.arg0("clauderon").arg("sandbox-init").arg("--stage").arg(stage).env_clear();
    for (name, fd) in [("--plan-fd", Some(plan)), ("--status-fd", Some(status)), ("--lifeline-fd", lifeline)] {
        let Some(fd) = fd else { continue };
        // This process has one thread, so nothing else is started while the descriptor can be inherited.
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).step("handing on a descriptor")?;
        next.arg(name).arg(fd.as_raw_fd().to_string());
    }
    next.arg("--").args(command);
    Ok(next)
}

/// What is written behind a descriptor, as JSON; every stage reads it from its start.
pub(crate) fn read_handed<T: DeserializeOwned>(handed: OwnedFd) -> Result<(T, OwnedFd), SandboxError> {
    let mut file = File::from(handed);
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).step("reading the plan")?;
    let mut text = String::new();
    file.read_to_string(&mut text).step("reading the plan")?;
    Ok((serde_json::from_str(&text).step("reading the plan")?, file.into()))
}

/// Tells the launcher why a later stage failed.
pub(crate) fn tell(status: OwnedFd, error: &SandboxError) {
    let text = serde_json::to_vec(error).unwrap_or_default();
    // A launcher that is gone has taken the sandbox with it.
    let _ = File::from(status).write_all(&text);
}

fn arm(wanted: &Launch<'_>) -> Result<Child, SandboxError> {
    crate::syscalls::close_on_exec().step("closing descriptors")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let text = std::fs::read(wanted.plan).step(format_args!("reading {}", wanted.plan.display()))?;
    let _only_once = std::fs::remove_file(wanted.plan);
    let plan: Plan = serde_json::from_slice(&text).step("reading the plan")?;
    let outlet = plan.output.as_deref().map(Outlet::open).transpose()?;
    let mut parts = may_mount()?.then(|| view::HostParts::open(&plan.view)).transpose()?;
    identity::drop_root(plan.uid, plan.gid)?;
    namespaces::enter_outer(plan.uid, plan.gid)?;
    // Not earlier: a change of user undoes it.
    die_with(wanted.owner)?;
    let parts = match parts.take() {
        Some(parts) => parts,
        None => view::HostParts::open(&plan.view)?,
    };
    let root = view::build(&plan.view, parts)?;
    let terminal = outlet.map(|outlet| outlet.terminal(root.as_fd())).transpose()?;
    rustix::system::sethostname(plan.hostname.as_bytes()).step("naming the host")?;
    start_inside(&text, terminal, wanted.command)
}

fn start_inside(
    plan: &[u8],
    terminal: Option<(Terminal, OwnedFd)>,
    command: &[OsString],
) -> Result<Child, SandboxError> {
    let memory = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC).step("keeping the plan")?;
    let mut memory = File::from(memory);
    memory.write_all(plan).step("keeping the plan")?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).step("making a pipe")?;
    let (inside_end, lifeline) = pipe_with(PipeFlags::CLOEXEC).step("making a pipe")?;
    let memory = OwnedFd::from(memory);
    let mut next = next_stage("init", &memory, &tell, Some(&inside_end), command)?;
    let terminal = terminal.map(|(terminal, agents_end)| {
        let share = || agents_end.try_clone().step("sharing the terminal");
        next.stdin(share()?).stdout(share()?).stderr(agents_end);
        // A signal to the launcher's group must not reach the agent twice.
        next.process_group(0);
        Ok::<_, SandboxError>(terminal)
    });
    let terminal = terminal.transpose()?;
    let process = next.spawn().step("starting the first process inside")?;
    // From here on only the stages hold them.
    drop((memory, tell, inside_end, next));
    let mut failure = String::new();
    File::from(told).take(MAX_STATUS).read_to_string(&mut failure).step("waiting for the sandbox")?;
    let child = Child { process, lifeline, terminal };
    match serde_json::from_str::<SandboxError>(&failure) {
        Ok(error) => Err(child.give_up(error)),
        Err(_) if failure.is_empty() => child.armed(),
        Err(_) => Err(child.give_up(SandboxError::arming("the first process inside", "its report cannot be read"))),
    }
}

/// Whether this is a root that may mount: then it opens what the user it becomes could not reach. In many containers root
/// is less than that.
fn may_mount() -> Result<bool, SandboxError> {
    let own = rustix::thread::capabilities(None).step("asking for its capabilities")?;
    Ok(rustix::process::geteuid().is_root() && own.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Ends this process with `owner`, and at once if that has ended already.
pub fn die_with(owner: Option<u32>) -> Result<(), SandboxError> {
    let Some(owner) = owner else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("following its owner")?;
    let parent = rustix::process::getppid().map(Pid::as_raw_pid);
    let is_there = parent.and_then(|pid| u32::try_from(pid).ok()) == Some(owner);
    is_there.then_some(()).ok_or_else(|| SandboxError::arming("following its owner", "it has ended"))
}

/// Tells whoever started this on standard output.
pub fn report(armed: &Report) {
    let mut line = serde_json::to_vec(armed).unwrap_or_default();
    line.push(b'\n');
    let out = std::io::stdout();
    // Whoever waited may be gone; the sandbox goes on, as it would have afterwards.
    let _ = rustix::io::write(out.as_fd(), &line);
}

/// More than any error says.
const MAX_STATUS: u64 = 64 * 1024;
