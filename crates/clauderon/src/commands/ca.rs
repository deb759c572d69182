//! `ca`: the certificate authority that sessions trust.

use clauderon_daemon::home::Home;
use clauderon_proxy::tls::ca::{Description, Issuer};
use serde_json::json;

use crate::cli::CaCommand;
use crate::error::{self, CliError, OK, Result};
use crate::{output, reach};

pub(crate) fn run(command: CaCommand) -> Result<u8> {
    let home = reach::home()?;
    let path = home.ca_cert();
    match command {
        CaCommand::Path(format) => {
            exists(&home)?;
            match format.json {
                true => output::json(&json!({ "path": path }))?,
                false => output::line(path.display())?,
            }
        }
        CaCommand::Show(format) => {
            let ca = describe(&home)?;
            match format.json {
                true => output::json(&json!({
                    "path": path, "subject": ca.subject, "not_before": ca.not_before,
                    "not_after": ca.not_after, "fingerprint_sha256": ca.fingerprint,
                }))?,
                false => show(&home, &ca)?,
            }
        }
    }
    Ok(OK)
}

/// Checked first, because loading would make a CA where there is none.
fn exists(home: &Home) -> Result {
    if home.ca_cert().exists() {
        return Ok(());
    }
    let message = format!("there is no certificate authority yet ({} does not exist)", home.ca_cert().display());
    Err(CliError::new(error::FAILURE, message).hint("the daemon makes it at its first start: `clauderon daemon`"))
}

fn describe(home: &Home) -> Result<Description> {
    exists(home)?;
    let issuer = Issuer::load_or_create(&home.ca_cert(), &home.ca_key());
    Ok(issuer.map_err(|e| CliError::caused(error::USAGE, e))?.describe())
}

fn show(home: &Home, ca: &Description) -> Result {
    output::members(&[
        ("subject", ca.subject.clone()),
        ("valid from", ca.not_before.clone()),
        ("valid until", ca.not_after.clone()),
        ("SHA-256", ca.fingerprint.clone()),
        ("certificate", home.ca_cert().display().to_string()),
        ("bundle", home.bundle().display().to_string()),
    ])
}
