//! `demo`: a real request through a real daemon, from a placeholder to a real credential, on a stand-in origin.

use clauderon_api::CreateSession;
use serde_json::Value;

use self::agent::{Agent, Answer};
use self::origin::{Origin, Seen};
use self::stage::Stage;
use crate::error::{CliError, Doing, FAILURE, OK, Result};
use crate::output::{self, Tone};
use crate::reach;

mod agent;
pub(super) mod origin;
pub(super) mod stage;

pub(crate) async fn run() -> Result<u8> {
    clauderon_proxy::tls::install_crypto_provider();
    let origin = Origin::start(HOST).await.doing(|| "the stand-in origin did not start")?;
    tokio::select! {
        code = perform(&origin) => code,
        // Dropping the stage ends the daemon and removes its home.
        _ = tokio::signal::ctrl_c() => Err(CliError::new(FAILURE, "interrupted")),
    }
}

async fn perform(origin: &Origin) -> Result<u8> {
    let stage = Stage::open(origin, HOST, SECRET).await?;
    output::line(output::heading(HEADLINE))?;
    let checks = act(&stage, origin).await;
    let daemon_said = stage.close().await?;
    conclude(checks, &daemon_said)
}

/// Every expectation that was looked at, and whether it held.
#[derive(Default)]
struct Checks(Vec<bool>);

impl Checks {
    fn expect(&mut self, holds: bool, what: &str) -> Result {
        self.0.push(holds);
        let mark = if holds { output::toned(Tone::Good, "ok") } else { output::toned(Tone::Bad, "FAILED") };
        output::line(format_args!("   {mark}  {what}"))
    }

    fn all_hold(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|held| *held)
    }
}

async fn act(stage: &Stage, origin: &Origin) -> Result<Checks> {
    let mut checks = Checks::default();
    let client = stage.client();
    let wanted = CreateSession {
        name: Some("demo".into()),
        agent: Some("none".into()),
        backend: Some("local".into()),
        ..CreateSession::default()
    };
    client.create_session(&wanted).await.map_err(reach::failed)?;
    let env = client.session_env("demo").await.map_err(reach::failed)?;
    let agent = Agent::in_session(&env)?;

    let answer = agent.send("GET", "/user").await?;
    show_sent(&mut checks, &agent)?;
    show_arrived(&mut checks, &origin.seen())?;
    show_answer(&mut checks, &answer)?;
    show_recorded(&mut checks, &stage.recorded("GET").await?, &agent)?;

    client.set_access_mode("demo", "read-only").await.map_err(reach::failed)?;
    let refused = agent.send("POST", "/user/repos").await?;
    show_refused(&mut checks, &refused, &origin.seen(), &stage.recorded("POST").await?)?;
    checks.expect(stage.log_is_intact()?, "whose hash chain holds")?;
    Ok(checks)
}

fn show_sent(checks: &mut Checks, agent: &Agent<'_>) -> Result {
    title("1. What the agent sent")?;
    quoted(&format!("GET https://{HOST}/user"))?;
    quoted(&format!("authorization: {}", agent.authorization()))?;
    checks.expect(agent.placeholder() != SECRET, "its GITHUB_TOKEN is a placeholder")?;
    checks.expect(!agent.environment_holds(SECRET), "the credential is nowhere in its environment")
}

fn show_arrived(checks: &mut Checks, seen: &[Seen]) -> Result {
    title("2. What the origin got")?;
    for request in seen {
        quoted(&format!("{} {}", request.method, request.path))?;
        quoted(&format!("authorization: {}", request.authorization.as_deref().unwrap_or("(none)")))?;
    }
    let real = format!("Bearer {SECRET}");
    let arrived = matches!(seen, [one] if one.authorization.as_deref() == Some(real.as_str()));
    checks.expect(arrived, "one request, with the real credential (a made-up one, for this demo)")
}

fn show_answer(checks: &mut Checks, answer: &Answer) -> Result {
    title("3. What came back to the agent")?;
    quoted(&format!("{} {}", answer.status, answer.body.trim_end()))?;
    checks.expect(answer.status == 200 && answer.body == origin::ANSWER, "the origin's own answer")?;
    checks.expect(!answer.holds(SECRET), "without the credential, in head and body")
}

fn show_recorded(checks: &mut Checks, line: &str, agent: &Agent<'_>) -> Result {
    title("4. What the audit log says")?;
    quoted(line)?;
    let record: Value = serde_json::from_str(line)?;
    let told = record["auth_injected"] == true && record["response_code"] == 200 && record["service"] == "github";
    checks.expect(told, "the request, its credential's use and its answer")?;
    let silent = !line.contains(SECRET) && !line.contains(agent.placeholder());
    checks.expect(silent, "neither the credential nor the placeholder")
}

fn show_refused(checks: &mut Checks, answer: &Answer, seen: &[Seen], line: &str) -> Result {
    title("And in read-only mode: POST /user/repos")?;
    quoted(&format!("{} {}", answer.status, answer.body.trim_end()))?;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let refused = answer.status == 403 && body["error"] == "Write operations are blocked in read-only mode";
    checks.expect(refused, "refused, with the reason and what to do")?;
    checks.expect(seen.len() == 1, "nothing of it reached the origin")?;
    let record: Value = serde_json::from_str(line)?;
    checks.expect(record["allowed"] == false && record["auth_injected"] == false, "and it is in the audit log")
}

fn conclude(checks: Result<Checks>, daemon_said: &str) -> Result<u8> {
    let failure = match checks {
        Ok(checks) if checks.all_hold() => return next_steps(),
        Ok(_) => CliError::new(FAILURE, "the demo did not go as it should"),
        Err(error) => error,
    };
    output::note("\nwhat the daemon said:");
    daemon_said.lines().for_each(|line| output::note(format_args!("   {}", output::plain(line))));
    Err(failure)
}

fn next_steps() -> Result<u8> {
    output::line("")?;
    output::line(output::heading("Next steps"))?;
    NEXT_STEPS.iter().try_for_each(|(command, why)| output::line(format_args!("   {command:<34}{why}")))?;
    Ok(OK)
}

fn title(text: &str) -> Result {
    output::line("")?;
    output::line(output::heading(text))
}

fn quoted(text: &str) -> Result {
    output::line(format_args!("   {}", output::plain(text)))
}

/// The name that is asked for; the daemon is told to dial the stand-in instead.
const HOST: &str = "api.github.com";
/// Has the shape of a GitHub token, and is none.
const SECRET: &str = "ghp_DemoOnlyNotARealTokenxxxxxxxxxxxxxx0";
const HEADLINE: &str = "A stand-in api.github.com, a real daemon, a real HTTPS request. No account, no network.";
const NEXT_STEPS: [(&str, &str); 4] = [
    ("clauderon config credentials", "which of your credentials are found"),
    ("clauderon run -- gh api user", "a real tool, without your token"),
    ("eval \"$(clauderon env NAME)\"", "a session in your own shell"),
    ("clauderon audit tail -f", "watch what goes out"),
];
