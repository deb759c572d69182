//! `env`: a session's environment, in words a shell, a dotenv reader or a program takes.

use clauderon_api::SessionEnv;
use serde_json::{Map, Value};

use crate::cli::{EnvArgs, EnvFormat};
use crate::error::{OK, Result};
use crate::{output, quote, reach, sandbox};

pub(crate) async fn run(args: EnvArgs) -> Result<u8> {
    let client = reach::daemon().await?;
    let env = match client.session_env(&args.name).await {
        Ok(env) => env,
        Err(error) => return Err(reach::session_failed(&client, error).await),
    };
    let backend = env.set.iter().find(|(name, _)| name == "CLAUDERON_BACKEND").map(|(_, value)| value.as_str());
    if let Some(backend) = backend.filter(|backend| sandbox::isolates(backend)) {
        let place = if backend == "sandbox" { "sandbox" } else { "container" };
        output::warning(format_args!(
            "a shell with this environment is not in the {place}: run `clauderon exec {} -- CMD`",
            args.name
        ));
    }
    match args.format {
        EnvFormat::Shell => shell(&env, std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
            .iter()
            .try_for_each(output::line)?,
        EnvFormat::Dotenv => dotenv(&env).iter().try_for_each(output::line)?,
        EnvFormat::Json => output::json(&json(&env))?,
    }
    Ok(OK)
}

/// What the shell that evaluates this must forget, then what it must know. `inherited` is what it exports now.
fn shell(env: &SessionEnv, inherited: impl Iterator<Item = String>) -> Vec<String> {
    let own = |name: &str| env.set.iter().any(|(set, _)| set == name);
    let mut gone: Vec<String> =
        inherited.filter(|name| quote::is_name(name) && env.removes(name) && !own(name)).collect();
    gone.sort();
    let unset = gone.iter().map(|name| format!("unset {name}"));
    unset.chain(named(env).map(|(name, value)| format!("export {name}={}", quote::shell(value)))).collect()
}

fn dotenv(env: &SessionEnv) -> Vec<String> {
    named(env).map(|(name, value)| format!("{name}={}", quote::dotenv(value))).collect()
}

fn json(env: &SessionEnv) -> Map<String, Value> {
    env.set.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

/// Variables that a shell can set; any other name would be read as something else.
fn named(env: &SessionEnv) -> impl Iterator<Item = (&str, &str)> {
    env.set.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| quote::is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SessionEnv {
        SessionEnv {
            set: [("GITHUB_TOKEN", "ghp_x"), ("GIT_CONFIG_VALUE_0", "!f(){ echo it's; };f"), ("bad-name", "x")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
            unset: vec!["SSL_CERT_DIR".into()],
            unset_prefixes: Vec::new(),
            unset_suffixes: vec!["_TOKEN".into()],
        }
    }

    #[test]
    fn a_shell_forgets_before_it_learns() {
        let inherited = ["PATH", "NPM_TOKEN", "GITHUB_TOKEN", "ssl_cert_dir"].map(String::from).into_iter();
        assert_eq!(
            shell(&sample(), inherited),
            [
                "unset NPM_TOKEN",
                "unset ssl_cert_dir",
                "export GITHUB_TOKEN='ghp_x'",
                r"export GIT_CONFIG_VALUE_0='!f(){ echo it'\''s; };f'",
            ]
        );
    }

    #[test]
    fn other_formats_hold_what_is_set() {
        assert_eq!(dotenv(&sample()), ["GITHUB_TOKEN=ghp_x", "GIT_CONFIG_VALUE_0=\"!f(){ echo it's; };f\""]);
        assert_eq!(json(&sample()).get("bad-name").and_then(Value::as_str), Some("x"));
    }
}
