//! The launch of a command in a container of its own, and its life until the command ends.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use clauderon_sandbox::container::{Armed, Front, LAUNCH_DIR, Mounted, Order, Outside, Walls};
use clauderon_sandbox::{SandboxError, die_with, report};
use tokio::time::timeout;

use crate::error::EngineError;
use crate::left::Held;
use crate::plan::{Bind, Plan};
use crate::program::Program;

/// How a launch is wanted.
pub struct Launch<'a> {
    /// The file that holds the plan; it is removed.
    pub plan: &'a Path,
    /// The program and its arguments.
    pub command: &'a [OsString],
    /// The process whose end is also the container's.
    pub owner: Option<u32>,
    /// Whether the outcome is told on standard output, for a program that waits for it.
    pub report: bool,
}

/// Puts the container up, runs the command in it to its end, and gives the exit code.
pub fn launch(wanted: &Launch<'_>) -> Result<u8, SandboxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| SandboxError::arming("starting the launcher", error))?;
    runtime.block_on(async {
        let started = start(wanted).await;
        if wanted.report {
            report(&started.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        let (plan, held, armed) = started?;
        let code = armed.until_end().await;
        let is_gone = is_gone(&plan).await;
        clean_up(&plan, held, is_gone).await;
        code
    })
}

async fn start(wanted: &Launch<'_>) -> Result<(Plan, Held, Armed), SandboxError> {
    die_with(wanted.owner)?;
    let plan = read(wanted.plan)?;
    let held = Held::take(&plan.record).map_err(refused)?;
    let (order, outside) = match put_up(&plan, wanted.command).await {
        Ok(standing) => standing,
        Err(error) => {
            clean_up(&plan, held, false).await;
            return Err(error);
        }
    };
    match hand_over(&plan, order, outside).await {
        Ok(armed) => Ok((plan, held, armed)),
        Err(error) => {
            let is_gone = is_gone(&plan).await;
            clean_up(&plan, held, is_gone).await;
            Err(error)
        }
    }
}

fn read(path: &Path) -> Result<Plan, SandboxError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        SandboxError::arming(format_args!("reading {}", path.display()), error.to_string())
    };
    let text = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let _only_once = std::fs::remove_file(path);
    serde_json::from_slice(&text).map_err(|error| unreadable(&error))
}

/// Has the engine make and start the container.
async fn put_up(plan: &Plan, command: &[OsString]) -> Result<(Order, Outside), SandboxError> {
    let program = Program::own().map_err(refused)?;
    let binds: Vec<Bind> = plan.binds.iter().cloned().chain(program.binds).chain([launch_dir(plan)]).collect();
    let order = order(plan, &binds, command)?;
    let outside = Outside::open(&plan.launch_dir)?;
    plan.engine.create(plan, &binds, &program.command).await.map_err(refused)?;
    plan.engine.start(&plan.name).await.map_err(refused)?;
    Ok((order, outside))
}

/// Waits for the first process, and has it start the agent.
async fn hand_over(plan: &Plan, order: Order, outside: Outside) -> Result<Armed, SandboxError> {
    let admitted = tokio::select! {
        admitted = timeout(START_LIMIT, outside.admit()) => admitted,
        ended = plan.engine.ended(&plan.name) => return Err(not_started("it ended at once", ended)),
    };
    let admitted = admitted.map_err(|_| not_started("it did not come up within a minute", Ok(())))??;
    let is_shown = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let front = match &plan.output {
        Some(log) => Front::Detached(log),
        None if is_shown => Front::Interactive,
        None => Front::Plain,
    };
    admitted.arm(order, &front)
}

fn launch_dir(plan: &Plan) -> Bind {
    Bind::read(&plan.launch_dir, LAUNCH_DIR)
}

fn order(plan: &Plan, binds: &[Bind], command: &[OsString]) -> Result<Order, SandboxError> {
    let writable = binds.iter().filter(|bind| bind.writable).map(|bind| &bind.target);
    let writable = writable.chain(plan.memory.iter().map(|memory| &memory.target)).cloned().collect();
    Ok(Order {
        command: command.to_vec(),
        directory: plan.directory.clone(),
        environment: plan.environment.clone(),
        way: plan.way.clone(),
        forwards: plan.forwards.clone(),
        walls: Walls {
            uid: plan.uid,
            gid: plan.gid,
            mounts: binds.iter().map(mounted).collect::<Result<_, _>>()?,
            writable,
            processes: plan.processes,
            memory: plan.limits.memory,
            cpus: plan.limits.cpus,
        },
    })
}

/// What lies there now, which the first process must find. Of what keeps its path none is a link: it may be an agent's, and
/// lead to what should not be shown.
fn mounted(bind: &Bind) -> Result<Mounted, SandboxError> {
    let step = || format!("showing {}", bind.source.display());
    let keeps_its_path = bind.source == bind.target;
    let there = if keeps_its_path { std::fs::symlink_metadata(&bind.source) } else { std::fs::metadata(&bind.source) };
    let there = there.map_err(|error| SandboxError::arming(step(), error))?;
    if there.is_symlink() {
        return Err(SandboxError::arming(step(), "it is a symbolic link"));
    }
    Ok(Mounted { target: bind.target.clone(), device: there.dev(), inode: there.ino(), writable: bind.writable })
}

/// Whether the container has ended, so that nothing is left to do: an engine that is told to remove what is just ending may
/// wait for it in vain.
async fn is_gone(plan: &Plan) -> bool {
    matches!(timeout(END_LIMIT, plan.engine.ended(&plan.name)).await, Ok(Ok(())))
}

/// A launcher that gets this far owns what it made; what cannot be removed now stays on record.
async fn clean_up(plan: &Plan, held: Held, is_gone: bool) {
    let _gone = std::fs::remove_dir_all(&plan.launch_dir);
    if is_gone || plan.engine.remove(&plan.name).await.is_ok() {
        held.strike();
    }
}

fn refused(error: EngineError) -> SandboxError {
    let refused = SandboxError { what: error.what, hint: None, code: NOT_ARMED };
    error.hint.into_iter().fold(refused, SandboxError::hint)
}

fn not_started(why: &str, ended: Result<(), EngineError>) -> SandboxError {
    let what = match ended {
        Ok(()) => format!("the container's first process did not reach its launcher: {why}"),
        Err(error) => format!("the container's first process did not reach its launcher: {}", error.what),
    };
    let hint = "does the engine run on this very machine? One in a virtual machine does not share its sockets";
    SandboxError { what, hint: Some(hint.to_owned()), code: NOT_ARMED }
}

const NOT_ARMED: u8 = 4;
/// The first process has ended already; the engine has to notice.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Also where the disk is slow and the machine busy.
const START_LIMIT: Duration = Duration::from_secs(60);
