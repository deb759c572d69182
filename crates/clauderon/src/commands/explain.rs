//! `explain`: the decision a request would meet, without sending it.

use clauderon_api::{ExplainRequest, Explanation};

use crate::cli::ExplainArgs;
use crate::error::{CliError, FAILURE, OK, Result};
use crate::output::{self, Tone};
use crate::reach;

pub(crate) async fn run(args: ExplainArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let asked = ExplainRequest {
        method: args.method.to_ascii_uppercase(),
        url: args.url,
        session: args.session,
        headers: args.headers,
        body: args.data.map(body).transpose()?,
    };
    let told = match client.explain(&asked).await {
        Ok(told) => told,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    match args.format.json {
        true => output::json(&told)?,
        false => show(&asked, &told)?,
    }
    Ok(OK)
}

/// The text itself, or what the file after an `@` holds.
fn body(text: String) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text) };
    std::fs::read_to_string(path).map_err(|e| CliError::caused(FAILURE, e).context(format!("cannot read {path}")))
}

fn show(asked: &ExplainRequest, told: &Explanation) -> Result {
    let (tone, verdict) = if told.allowed { (Tone::Good, "allowed") } else { (Tone::Bad, "refused") };
    output::line(format_args!(
        "{} {}",
        output::toned(tone, verdict),
        output::plain(&format!("{} {}", asked.method, asked.url))
    ))?;
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
    let hint = told.denial.as_ref().and_then(|denial| denial.get("hint")).and_then(|hint| hint.as_str());
    let mut members = vec![
        ("reason", told.reason.clone()),
        ("origin", told.origin.clone()),
        ("service", or_none(&told.service)),
        ("class", told.class.clone()),
        ("rule", or_none(&told.rule)),
        ("credential", or_none(&told.credential)),
        ("source", or_none(&told.source)),
        ("surface", or_none(&told.surface)),
        ("injected", told.injection.clone()),
        ("session", format!("{} ({})", told.session, told.access_mode)),
    ];
    members.extend(told.answer.iter().map(|text| ("answer", text.clone())));
    members.extend(told.error.iter().map(|text| ("error", text.clone())));
    members.extend(hint.map(|text| ("hint", text.to_owned())));
    output::members(&members)
}
