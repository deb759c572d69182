//! `explain`: the decision a request would meet, without sending it.

use clauderon_api::{ExplainRequest, Explanation};

use crate::cli::ExplainArgs;
use crate::error::{OK, Result};
use crate::output::{self, Tone};
use crate::reach;

pub(crate) async fn run(args: ExplainArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let asked = ExplainRequest { method: args.method.to_ascii_uppercase(), url: args.url, session: args.session };
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
        ("rule", or_none(&told.rule)),
        ("class", told.class.clone()),
        ("service", or_none(&told.service)),
        ("credential", or_none(&told.credential)),
        ("source", or_none(&told.source)),
        ("injected", if told.auth_injected { "yes, into a request without a credential" } else { "no" }.into()),
        ("session", format!("{} ({})", told.session, told.access_mode)),
    ];
    members.extend(hint.map(|text| ("hint", text.to_owned())));
    output::members(&members)
}
