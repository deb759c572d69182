//! The last stage: this process, a child of the first, gives up what is left and becomes the command.

use crate::agent::{become_command, limit, take_over_terminal};
use crate::error::{SandboxError, Step as _};
use crate::launch::{Handed, tell};
use crate::{seccomp, syscalls};

use super::Order;

use rustix::process::Resource;

/// Becomes the command; returns the exit code only when it cannot.
pub fn agent(handed: &Handed<'_>, has_terminal: bool) -> u8 {
    let Ok(status) = syscalls::inherited(handed.status) else { return NOT_A_STAGE };
    let error = match confine(handed, has_terminal) {
        Ok(order) => become_command(&order.environment, &order.command).hint_instead(NOT_IN_THE_IMAGE),
        Err(error) => error,
    };
    tell(status, &error);
    error.code
}

fn confine(handed: &Handed<'_>, has_terminal: bool) -> Result<Order, SandboxError> {
    let order = syscalls::inherited(handed.plan).step("taking over the order")?;
    let order: Order = crate::launch::read_handed(order)?.0;
    rustix::process::chdir(&order.directory).step(format_args!("entering {}", order.directory.display()))?;
    if has_terminal {
        take_over_terminal()?;
    }
    limit(Resource::Core, 0)?;
    rustix::thread::set_no_new_privs(true).step("forbidding new privileges")?;
    syscalls::close_on_exec().step("closing descriptors")?;
    seccomp::apply()?;
    Ok(order)
}

const NOT_IN_THE_IMAGE: &str = "the image must have it, on its PATH";
const NOT_A_STAGE: u8 = 4;
