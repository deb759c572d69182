//! The homes of Claude Code, Codex and Gemini in a session: usable, its own, and without any real token.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clauderon_testkit::rig::RigBuilder;
use serde_json::{Value, json};

use crate::rig;

const ACCESS: &str = "sk-ant-oat01-TheRealAccessTokenNobodyMaySee";
const REFRESH: &str = "sk-ant-ort01-TheRealRefreshTokenNobodyMaySee";
const CODEX_ACCESS: &str = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.TheRealSignatureNobodyMaySee";
const CODEX_REFRESH: &str = "rt_TheRealCodexRefreshNobodyMaySee";
const GEMINI: &str = "AIzaTheRealGeminiKeyNobodyMaySee01234";

/// A user who is logged in everywhere.
fn logged_in() -> RigBuilder {
    let rig = [ACCESS, REFRESH, CODEX_ACCESS, CODEX_REFRESH].into_iter().fold(rig(), RigBuilder::guards);
    let claude = json!({"claudeAiOauth": {
        "accessToken": ACCESS, "refreshToken": REFRESH, "expiresAt": 4_102_444_800_000_i64,
        "scopes": ["user:inference", "user:sessions:claude_code"], "subscriptionType": "max", "rateLimitTier": "t1",
        "organizationToken": REFRESH,
    }});
    let claims = json!({"email": "ann@example.com", "https://api.openai.com/auth": {
        "chatgpt_account_id": "acc-1", "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-real"}});
    let id = format!("eyJhbGciOiJSUzI1NiJ9.{}.TheRealIdSignature", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let codex = json!({"tokens": {"id_token": id, "access_token": CODEX_ACCESS, "refresh_token": CODEX_REFRESH, "account_id": "acc-1"}});
    write_private(&rig.outside().join(".claude/.credentials.json"), &claude);
    write_private(&rig.outside().join(".codex/auth.json"), &codex);
    rig.guards("TheRealIdSignature").guards("ann@example.com").guards("user-real").secret("gemini_api_key", GEMINI)
}

fn write_private(path: &Path, json: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, json.to_string()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn read(home: &str, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(home).join(file)).unwrap()).unwrap()
}

fn mode(path: impl Into<PathBuf>) -> u32 {
    std::fs::metadata(path.into()).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn every_agent_is_logged_in_with_placeholders() {
    let rig = logged_in().start().await;
    rig.create("one", &[]).await;
    let env = rig.session_env("one").await;
    let id = env["CLAUDERON_SESSION_ID"].clone();
    let claude = &env["CLAUDE_CONFIG_DIR"];
    let login = read(claude, ".credentials.json")["claudeAiOauth"].clone();
    assert_eq!(login["accessToken"], format!("sk-ant-oat01-clauderon-placeholder-{id}-000000"));
    assert_eq!(login["refreshToken"], format!("sk-ant-ort01-clauderon-placeholder-{id}-000000"));
    assert_eq!((&login["expiresAt"], &login["subscriptionType"]), (&9_999_999_999_999_i64.into(), &"max".into()));
    assert_eq!(login["scopes"], json!(["user:inference", "user:sessions:claude_code"]));
    assert_eq!(login.get("organizationToken"), None, "only what is known to hold no token");
    assert_eq!(read(claude, ".claude.json")["hasCompletedOnboarding"], true);
    assert!(!env.contains_key("CLAUDE_CODE_OAUTH_TOKEN"), "it would win over the login and its scopes");
    let codex = read(&env["CODEX_HOME"], "auth.json");
    let tokens = &codex["tokens"];
    assert_eq!(
        (&codex["auth_mode"], &codex["OPENAI_API_KEY"], &tokens["account_id"]),
        (&"chatgpt".into(), &Value::Null, &"acc-1".into())
    );
    let claims = |token: &Value| -> Value {
        let parts: Vec<&str> = token.as_str().unwrap().split('.').collect();
        assert!(parts.len() == 3 && parts.iter().all(|part| !part.is_empty()), "{token}");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
    };
    assert!(claims(&tokens["access_token"])["exp"].as_i64().unwrap() > 4_000_000_000);
    let identity = claims(&tokens["id_token"])["https://api.openai.com/auth"].clone();
    assert_eq!((&identity["chatgpt_account_id"], &identity["chatgpt_plan_type"]), (&"acc-1".into(), &"pro".into()));
    let gemini = read(&env["GEMINI_CLI_HOME"], ".gemini/settings.json");
    assert_eq!(gemini["security"]["auth"]["selectedType"], "gemini-api-key");
    assert_eq!(env["GEMINI_API_KEY"], env["GOOGLE_API_KEY"]);
    for (home, file) in
        [(claude, ".credentials.json"), (&env["CODEX_HOME"], "auth.json"), (&env["CODEX_HOME"], "config.toml")]
    {
        assert_eq!((mode(home), mode(Path::new(home).join(file))), (0o700, 0o600), "{file}");
    }
    rig.assert_no_secret();
}

#[tokio::test]
async fn a_home_is_the_sessions_own_and_goes_with_it() {
    let rig = logged_in().start().await;
    rig.create("one", &[]).await;
    rig.create("two", &["--credential", "gemini"]).await;
    let (one, two) = (rig.session_env("one").await, rig.session_env("two").await);
    assert!(!two.contains_key("CLAUDE_CONFIG_DIR") && !two.contains_key("CODEX_HOME"), "{two:?}");
    assert_ne!(one["GEMINI_CLI_HOME"], two["GEMINI_CLI_HOME"]);
    let settings = Path::new(&one["CLAUDE_CONFIG_DIR"]).join(".claude.json");
    std::fs::write(&settings, "{\"theme\":\"light\"}").unwrap();
    rig.session_env("one").await;
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), "{\"theme\":\"light\"}", "the agent's to change");
    rig.cli(["delete", "one"]).succeed().await;
    assert!(!Path::new(&one["CLAUDE_CONFIG_DIR"]).exists() && Path::new(&two["GEMINI_CLI_HOME"]).exists());
    rig.assert_no_secret();
}

#[tokio::test]
async fn an_agent_cannot_lead_the_daemon_out_of_its_home() {
    let rig = logged_in().start().await;
    rig.create("one", &[]).await;
    let home = rig.session_env("one").await["CLAUDE_CONFIG_DIR"].clone();
    std::fs::remove_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(rig.outside().join(".claude"), &home).unwrap();
    rig.session_env("one").await;
    assert_eq!(
        read(rig.outside().join(".claude").to_str().unwrap(), ".credentials.json")["claudeAiOauth"]["accessToken"],
        ACCESS
    );
    assert!(!Path::new(&home).is_symlink());
}

#[tokio::test]
async fn in_a_sandbox_the_homes_can_be_written_and_nothing_else_of_the_sessions() {
    let rig = logged_in().start().await;
    let script = "set -e; grep -q clauderon-placeholder $CLAUDE_CONFIG_DIR/.credentials.json\n\
                  echo {} > $CLAUDE_CONFIG_DIR/new; rm $CODEX_HOME/auth.json; mkdir $GEMINI_CLI_HOME/.gemini/tmp\n\
                  ! mv $CODEX_HOME $CODEX_HOME.away; ! touch $(dirname $CODEX_HOME)/beside; echo all good";
    let run = rig.cli(["run", "--backend", "sandbox", "--", "sh", "-c", script]).finish().await;
    assert!(run.code == 0 && run.stdout.contains("all good"), "{}", run.all());
    rig.assert_no_secret();
}

#[tokio::test]
async fn tokens_from_other_sources_work_as_they_did() {
    let key = "sk-proj-TheRealOpenaiKeyNobodyMaySee";
    let setup = "sk-ant-oat01-TheRealSetupTokenNobodyMaySee";
    let rig = rig().secret("openai_api_key", key).secret("anthropic_oauth_token", setup).start().await;
    rig.create("one", &[]).await;
    let env = rig.session_env("one").await;
    let codex = read(&env["CODEX_HOME"], "auth.json");
    assert_eq!(
        (&codex["auth_mode"], codex["OPENAI_API_KEY"].as_str()),
        (&"apikey".into(), Some(env["OPENAI_API_KEY"].as_str()))
    );
    assert_eq!(codex.get("tokens"), None);
    let login = read(&env["CLAUDE_CONFIG_DIR"], ".credentials.json")["claudeAiOauth"].clone();
    assert_eq!(login["accessToken"].as_str(), Some(env["CLAUDE_CODE_OAUTH_TOKEN"].as_str()));
    assert_eq!(login["scopes"], json!(["user:inference"]));
    rig.assert_no_secret();
}

#[tokio::test]
async fn codexs_own_api_key_is_a_source() {
    let rig = rig().guards("sk-proj-TheRealOpenaiKeyNobodyMaySee");
    let codex = json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-proj-TheRealOpenaiKeyNobodyMaySee"});
    write_private(&rig.outside().join(".codex/auth.json"), &codex);
    let rig = rig.start().await;
    let rows = rig.cli(["config", "credentials", "--json"]).succeed().await.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "openai").unwrap().clone();
    assert!(row["available"] == true && row["source"].as_str().unwrap().starts_with("login "), "{row}");
    rig.assert_no_secret();
}
