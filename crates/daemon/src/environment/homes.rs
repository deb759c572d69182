//! The homes of Claude Code, Codex and Gemini in a session: logged in with placeholders, and the session's own to change.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_core::credential::CredentialKind;
use clauderon_core::placeholder;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Grounds;
use crate::home::{private_dir, write_private};
use crate::sources::login::OPENAI_CLAIMS;

/// What an agent may know of the logins its placeholders stand for; `None` where another source gives the credential.
#[derive(Default)]
pub(crate) struct Profiles {
    /// Claude Code's: `scopes`, `subscriptionType`, `rateLimitTier`.
    pub(crate) claude: Option<Map<String, Value>>,
    /// Codex's: `account_id`, and claims of its identity token.
    pub(crate) codex: Option<Map<String, Value>>,
}

/// Where the programs are told that their homes are.
pub(super) fn variables(grounds: &Grounds<'_>) -> Vec<(String, String)> {
    let homes = [("CLAUDE_CONFIG_DIR", CLAUDE), ("CODEX_HOME", CODEX), ("GEMINI_CLI_HOME", GEMINI)];
    let used = homes.into_iter().filter(|(_, home)| is_used(grounds, home));
    let homes = used.map(|(variable, home)| (variable.to_owned(), place(grounds, home).display().to_string()));
    // Whoever started it behind walls trusts the place: Claude Code would ask, and a session has no answer.
    let trusts = (has_walls(grounds) && is_used(grounds, CLAUDE)).then(|| ("CLAUDE_CODE_SANDBOXED".into(), "1".into()));
    homes.chain(trusts).collect()
}

/// Writes the logins anew, and the settings where there are none yet: those are the agent's to change. Gives what was written,
/// directories first.
pub(crate) fn write(grounds: &Grounds<'_>) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for home in HOMES.into_iter().filter(|home| is_used(grounds, home)) {
        private_dir(&grounds.home.session_agents(&grounds.session.id))?;
        let dir = place(grounds, home);
        own_dir(&dir)?;
        written.push(dir.clone());
        written.extend(match home {
            CLAUDE => claude(grounds, &dir)?,
            CODEX => codex(grounds, &dir)?,
            _ => gemini(&dir)?,
        });
    }
    Ok(written)
}

/// Whether what the session's processes do stays within walls.
pub(super) fn has_walls(grounds: &Grounds<'_>) -> bool {
    grounds.session.backend != "local"
}

fn place(grounds: &Grounds<'_>, home: &str) -> PathBuf {
    grounds.home.session_agents(&grounds.session.id).join(home)
}

fn is_used(grounds: &Grounds<'_>, home: &str) -> bool {
    let has = |kind| grounds.placeholder(kind).is_some();
    match home {
        CLAUDE => has(CredentialKind::Anthropic),
        CODEX => has(CredentialKind::Chatgpt) || has(CredentialKind::Openai),
        _ => has(CredentialKind::Gemini),
    }
}

fn claude(grounds: &Grounds<'_>, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let access = grounds.placeholder(CredentialKind::Anthropic).unwrap_or_default();
    if access.starts_with(OAUTH) {
        let mut login = grounds.profiles.claude.clone().unwrap_or_else(setup_token);
        login.insert("accessToken".into(), access.into());
        login
            .insert("refreshToken".into(), placeholder::refresh(&grounds.session.id, CredentialKind::Anthropic).into());
        login.insert("expiresAt".into(), NEVER_MS.into());
        written.push(write_json(dir.join(".credentials.json"), &json!({ "claudeAiOauth": login }))?);
    }
    // It would ask for a theme and a login before anything else.
    written.extend(write_once(dir.join(".claude.json"), &pretty(&json!({ "hasCompletedOnboarding": true })))?);
    if has_walls(grounds) {
        // Its presets skip permissions, which it would have confirmed at a terminal first.
        let settings = json!({ "skipDangerousModePermissionPrompt": true });
        written.extend(write_once(dir.join("settings.json"), &pretty(&settings))?);
    }
    Ok(written)
}

/// A token from `claude setup-token` may ask the model, and no more.
fn setup_token() -> Map<String, Value> {
    Map::from_iter([("scopes".to_owned(), json!(["user:inference"])), ("subscriptionType".to_owned(), Value::Null)])
}

fn codex(grounds: &Grounds<'_>, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let login = match grounds.placeholder(CredentialKind::Chatgpt) {
        // It is in the environment.
        Some(access) if access.starts_with(super::CODEX_TOKEN) => None,
        Some(access) => Some(chatgpt(grounds, access)),
        None => Some(json!({ "auth_mode": "apikey", "OPENAI_API_KEY": grounds.placeholder(CredentialKind::Openai) })),
    };
    let login = login.map(|login| write_json(dir.join("auth.json"), &login)).transpose()?;
    let config = write_once(dir.join("config.toml"), "cli_auth_credentials_store = \"file\"\n")?;
    Ok([login, config].into_iter().flatten().collect())
}

fn chatgpt(grounds: &Grounds<'_>, access: &str) -> Value {
    let id = &grounds.session.id;
    let mut claims = grounds.profiles.codex.clone().unwrap_or_default();
    let account = claims.remove("account_id").or_else(|| claims.get("chatgpt_account_id").cloned()).unwrap_or_default();
    claims.insert("chatgpt_user_id".into(), "user-clauderon".into());
    let identity = json!({ "email": "agent@clauderon.invalid", "exp": NEVER_S, OPENAI_CLAIMS: claims });
    let payload = URL_SAFE_NO_PAD.encode(identity.to_string());
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": format!("e30.{payload}.clauderon-placeholder-{id}-000000"),
            "access_token": access,
            "refresh_token": placeholder::refresh(id, CredentialKind::Chatgpt),
            "account_id": account,
        },
        "last_refresh": now,
    })
}

fn gemini(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = dir.join(".gemini");
    // What is in a home belongs to the agent: a link there would have the daemon write wherever it leads.
    if dir.symlink_metadata().is_ok() {
        return Ok(Vec::new());
    }
    private_dir(&dir)?;
    let settings = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } } });
    let settings = write_json(dir.join("settings.json"), &settings)?;
    Ok(vec![dir, settings])
}

/// A directory, and not what an agent without a sandbox may have put in its place.
fn own_dir(dir: &Path) -> io::Result<()> {
    if dir.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        std::fs::remove_file(dir)?;
    }
    private_dir(dir)
}

fn write_json(path: PathBuf, value: &Value) -> io::Result<PathBuf> {
    write_private(&path, pretty(value).as_bytes(), 0o600)?;
    Ok(path)
}

fn write_once(path: PathBuf, text: &str) -> io::Result<Option<PathBuf>> {
    // Even a dangling link is something that the agent put there.
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    write_private(&path, text.as_bytes(), 0o600)?;
    Ok(Some(path))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Their directories in the session's.
pub(crate) const HOMES: [&str; 3] = [CLAUDE, CODEX, GEMINI];
/// What Claude Code and Anthropic's API know an OAuth token by.
const OAUTH: &str = "sk-ant-oat";
const CLAUDE: &str = "claude";
const CODEX: &str = "codex";
const GEMINI: &str = "gemini";
/// In the year 2286.
const NEVER_S: i64 = 9_999_999_999;
const NEVER_MS: i64 = 9_999_999_999_999;
