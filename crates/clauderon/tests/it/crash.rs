//! Crashes: after `kill -9` under load, every request an origin saw has exactly one line.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clauderon_testkit::agent::Agent;
use clauderon_testkit::body::empty;
use clauderon_testkit::origin::ok;
use http::Request;
use tokio::task::JoinSet;

use crate::{github, github_rig};

const ROUNDS: usize = 10;
const CLIENTS: usize = 8;
/// Requests an origin must have seen in a round before the daemon is killed in the midst of the next ones.
const UNDER_LOAD: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_an_origin_saw_has_exactly_one_line_after_kill_9() {
    let origin = github().route("/*", |call| async move {
        let slow = call.uri.path().ends_with('7');
        call.collect().await;
        if slow {
            // Some are always in flight when the daemon dies.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        ok("x")
    });
    let origin = origin.start().await;
    let mut rig = github_rig(&origin).build();
    for round in 0..ROUNDS {
        rig.start().await;
        let before = origin.log().count();
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = JoinSet::new();
        for client in 0..CLIENTS {
            load.spawn(hammer(rig.anonymous(), format!("/{round}/{client}"), Arc::clone(&stop)));
        }
        origin.log().wait(before + UNDER_LOAD).await;
        rig.kill9().await;
        stop.store(true, Ordering::SeqCst);
        load.join_all().await;
    }
    rig.start().await;
    rig.anonymous().get("https://api.github.com/last").await;
    rig.audit_path("/last").await;
    let mut recorded: HashMap<String, usize> = HashMap::new();
    for line in rig.audit() {
        *recorded.entry(line.text("path").to_owned()).or_default() += 1;
    }
    let seen = origin.log().requests();
    assert!(seen.len() >= ROUNDS * UNDER_LOAD);
    let wrong: Vec<_> = seen
        .iter()
        .map(|seen| (seen.target.clone(), recorded.get(&seen.target).copied().unwrap_or(0)))
        .filter(|(_, lines)| *lines != 1)
        .collect();
    assert!(wrong.is_empty(), "{} of {} requests have not exactly one line: {wrong:?}", wrong.len(), seen.len());
    assert!(recorded.values().all(|lines| *lines == 1), "a line was written twice");
    let ended = rig.audit().iter().filter(|line| line.text("error") == "daemon terminated").count();
    assert!(ended > 0, "no request was in flight in any of {ROUNDS} crashes");
    rig.cli(["audit", "verify"]).succeed().await;
    rig.assert_no_secret();
}

/// Sends one request after the other until the daemon is gone; odd clients speak HTTP/2.
async fn hammer(agent: Agent, prefix: String, stop: Arc<AtomicBool>) {
    let h2 = prefix.ends_with(['1', '3', '5', '7']);
    let mut client = if h2 { agent.h2("api.github.com").await } else { agent.h1("api.github.com").await };
    let mut index = 0;
    while !stop.load(Ordering::SeqCst) {
        let request = Request::get(format!("{prefix}/{index}")).body(empty()).unwrap();
        let Ok(response) = client.start(request).await else { return };
        if !clauderon_testkit::agent::read(response).await.complete {
            return;
        }
        index += 1;
    }
}

#[tokio::test]
async fn a_torn_last_line_is_mended_at_start() {
    let origin = github().reply("/*", "x").start().await;
    let mut rig = github_rig(&origin).start().await;
    rig.anonymous().get("https://api.github.com/whole").await;
    rig.audit_path("/whole").await;
    rig.kill9().await;
    let path = rig.home().join("audit.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"session_id\":\"00");
    std::fs::write(&path, text).unwrap();
    rig.start().await;
    rig.anonymous().get("https://api.github.com/after").await;
    rig.audit_path("/after").await;
    rig.audit_path("/whole").await;
    rig.cli(["audit", "verify"]).succeed().await;
}
