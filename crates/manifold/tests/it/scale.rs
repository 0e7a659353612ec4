//! Three doors and two routers behind nginx, with the configuration that `deploy/` ships, on Postgres, Redis and NATS.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use manifold_testkit::{Client, Upstream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, postgres_account, postgres_usage};
use crate::limits::redis_url;
use crate::nats::Nats;
use crate::program::{MODEL, Program, SECRET, Server, admin_key, fixed_port, until, until_within};

/// nginx with the configuration of `deploy/nginx`, other ports, and these processes behind it.
struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path, ports: (u16, u16), doors: &[String], routers: &[String]) -> Result<Self> {
        let shipped =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nginx/nginx.conf"))?;
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("    {what}_temp_path {};\n", folder.join(what).display()));
        let settings = shipped
            .replace("listen 8080;", &format!("listen 127.0.0.1:{};", ports.0))
            .replace("listen 9000 ", &format!("listen 127.0.0.1:{} ", ports.1))
            .replace("http {\n", &format!("http {{\n{}", paths.concat()));
        let servers = |name: &str, addresses: &[String]| {
            let servers: String = addresses.iter().map(|address| format!("    server {address};\n")).collect();
            format!("upstream {name} {{\n{servers}    keepalive 64;\n}}\n")
        };
        std::fs::write(folder.join("nginx.conf"), settings)?;
        std::fs::write(folder.join("upstreams.conf"), servers("doors", doors) + &servers("routers", routers))?;
        let program = ["/usr/sbin/nginx", "/usr/local/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("nginx"));
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("nginx.log"));
        command.arg("-g").arg(format!("daemon off; pid {};", folder.join("nginx.pid").display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.context("nginx is not there: apt-get install nginx-light")?))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // In order, so that its workers end, too.
        let _ = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Chats until told to stop; counts those that were answered, and the others.
async fn chat(client: &Client, stop: &CancellationToken) -> (usize, usize) {
    let (mut answered, mut failed) = (0, 0);
    while !stop.is_cancelled() {
        match client.chat(MODEL, "hi").await {
            Ok(reply) if reply.status == 200 => answered += 1,
            _ => {
                failed += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doors_and_routers_behind_nginx_come_and_go_under_load_and_every_call_is_accounted_once() -> Result<()> {
    let (groq, nats, database) = (Upstream::start().await?, Nats::start().await, Database::create().await?);
    let (front, mesh) = (fixed_port()?, fixed_port()?);
    let all = Program::new()?.groq(&groq).set("store.url", database.url.clone()).set("mesh.secret", SECRET);
    let all = all.set("bus.nats_url", nats.url()).set("bus.jetstream.max_bytes", "100MiB");
    let all = all.set("cache.redis_url", redis_url()?).set("cache.replicas", "3");
    let limit = [("quota", "100000"), ("window", "60s"), ("mode", "leased")];
    let all = limit.into_iter().fold(all, |all, (name, value)| all.set(&format!("edge.limits.per_key.{name}"), value));
    let door = all.clone().set("mesh.ai_router", format!("http://127.0.0.1:{mesh}"));
    let mut routers = [all.start("ai-router").await?, all.start("ai-router").await?];
    let mut doors = [door.start("edge").await?, door.start("edge").await?, door.start("edge").await?];
    let addresses = |found: Result<Vec<std::net::SocketAddr>>| -> Result<Vec<String>> {
        Ok(found?.iter().map(ToString::to_string).collect())
    };
    let door_addresses = addresses(doors.iter().map(Server::public).collect())?;
    let router_addresses = addresses(routers.iter().map(Server::grpc).collect())?;
    let nginx = Nginx::start(all.folder(), (front, mesh), &door_addresses, &router_addresses)?;
    for server in &mut doors {
        server.ready().await?;
    }
    let client = Client::new(([127, 0, 0, 1], front).into(), Some(&admin_key(&all.data())?));
    until("nginx answers", async || Ok(client.chat(MODEL, "hi").await?.status == 200)).await?;

    let stop = CancellationToken::new();
    let load = join_all((0..16).map(|_| chat(&client, &stop)));
    let fate = async {
        sleep(Duration::from_millis(500)).await;
        // One of each is stopped in order and one router without warning; the rest goes on.
        let (one, [first, ..]) = (&mut doors[2], &mut routers);
        let outcome = (one.stop().await, first.kill().await);
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
        outcome
    };
    let (counts, outcome) = tokio::join!(load, fate);
    outcome.0?;
    outcome.1?;
    let (answered, failed) = counts.into_iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));

    // What was with the killed router is lost with it: at most its last batch, and one call of each caller.
    ensure!(answered > 200 && failed <= 2 * 16, "{answered} answered, {failed} failed");
    let url = &database.url;
    until_within(Duration::from_secs(60), "every event took effect once", async || {
        Ok(postgres_usage(url).await? == (postgres_account(url).await?.requests as i64, 0))
    })
    .await?;
    let verified = all.run(&["bus", "verify"]).await?;
    ensure!(verified.code == 0, "{}{}", verified.out, verified.err);
    let missing = groq.hits() - postgres_account(url).await?.attempts;
    ensure!(missing <= 128, "{missing} rows are missing");
    drop(nginx);
    for server in doors[..2].iter_mut().chain(&mut routers[1..]) {
        server.stop().await?;
    }
    database.drop().await
}
