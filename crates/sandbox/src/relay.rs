//! The one way out: what connects to the relay's port, or to a name on the ports of the web, reaches the session's socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::dns::{self, Names};
use crate::error::{SandboxError, Step as _};
use crate::plan::{
    CAPTURED, DNS_PORT, HTTP_PORT, KUBERNETES_PORT, KUBERNETES_SOCKET, RELAY_PORT, SOCKET, TALOS_PORT, TALOS_SOCKET,
    forward_socket,
};

/// Opens every listener, then serves them beside whatever else this runtime does. The session's socket is in the working
/// directory, and beside it those of the ports that `forwards` lists.
pub(crate) async fn start(forwards: &[u16]) -> Result<(), SandboxError> {
    let names = Arc::new(Names::default());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let relay = listen(Ipv4Addr::LOCALHOST, RELAY_PORT).await?;
    tokio::spawn(serve(relay, Arc::clone(&room), |client| relay_to(client, SOCKET)));
    for (port, socket) in [(KUBERNETES_PORT, KUBERNETES_SOCKET), (TALOS_PORT, TALOS_SOCKET)] {
        let gateway = listen(Ipv4Addr::LOCALHOST, port).await?;
        tokio::spawn(serve(gateway, Arc::clone(&room), move |client| relay_to(client, socket)));
    }
    for &port in forwards {
        let listener = listen(Ipv4Addr::LOCALHOST, port).await?;
        let socket: Arc<str> = forward_socket(port).into();
        tokio::spawn(serve(listener, Arc::clone(&room), move |client| relay_to(client, Arc::clone(&socket))));
    }
    for port in CAPTURED {
        let listener = listen(Ipv4Addr::UNSPECIFIED, port).await?;
        let names = Arc::clone(&names);
        tokio::spawn(serve(listener, Arc::clone(&room), move |client| capture(client, port, Arc::clone(&names))));
    }
    let questions = UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT)).await.step("listening for names")?;
    tokio::spawn(answer(questions, names));
    Ok(())
}

async fn listen(ip: Ipv4Addr, port: u16) -> Result<TcpListener, SandboxError> {
    TcpListener::bind((ip, port)).await.step(format_args!("listening on {ip}:{port}"))
}

async fn serve<F>(listener: TcpListener, room: Arc<Semaphore>, carry: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        // Beyond the limit connections wait in the kernel's queue, and then fail like any full server's.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else {
            sleep(BACK_OFF).await;
            continue;
        };
        let carrying = carry(client);
        tokio::spawn(async move {
            // Either side may end as it likes; there is nobody to tell.
            let _ended = carrying.await;
            drop(permit);
        });
    }
}

async fn relay_to(mut client: TcpStream, socket: impl AsRef<str>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut way = connect(socket.as_ref()).await?;
    pump(&mut client, &mut way).await
}

/// Does for a client that knows no proxy what one that knows it would do.
async fn capture(mut client: TcpStream, port: u16, names: Arc<Names>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let IpAddr::V4(asked) = client.local_addr()?.ip() else { return Ok(()) };
    let Some(name) = names.name_of(asked) else { return Ok(()) };
    let mut way = way_out().await?;
    way.write_all(format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n").as_bytes()).await?;
    let head = timeout(ANSWER_LIMIT, read_head(&mut way)).await??;
    if head.starts_with(b"HTTP/1.1 2") {
        return pump(&mut client, &mut way).await;
    }
    // Only a client that speaks plain HTTP can read the refusal.
    if port == HTTP_PORT {
        client.write_all(&head).await?;
        pump(&mut client, &mut way).await?;
    }
    Ok(())
}

/// The head of an answer and no byte more.
async fn read_head(way: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(way.read_u8().await?);
    }
    Ok(head)
}

/// The session's socket to the proxy.
async fn way_out() -> io::Result<UnixStream> {
    connect(SOCKET).await
}

/// One of the session's sockets. While the daemon starts again nobody listens there, and clients need not notice.
async fn connect(socket: &str) -> io::Result<UnixStream> {
    let mut left = RETRIES;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if left > 0 && is_restart(&error) => left -= 1,
            connected => return connected,
        }
        sleep(BACK_OFF).await;
    }
}

fn is_restart(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn pump(client: &mut TcpStream, way: &mut UnixStream) -> io::Result<()> {
    copy_bidirectional_with_sizes(client, way, BUFFER, BUFFER).await.map(drop)
}

async fn answer(questions: UdpSocket, names: Arc<Names>) {
    let mut question = [0; dns::MAX_MESSAGE];
    loop {
        let Ok((length, asker)) = questions.recv_from(&mut question).await else {
            sleep(BACK_OFF).await;
            continue;
        };
        let asked = question.get(..length).unwrap_or_default();
        if let Some(answer) = dns::answer(asked, &names) {
            // An asker that is gone needs no answer.
            let _sent = questions.send_to(&answer, SocketAddr::new(asker.ip(), asker.port())).await;
        }
    }
}

/// As many as the proxy takes of one session, and some that wait.
const MAX_CONNECTIONS: usize = 576;

/// Two per connection; a TLS record fits.
const BUFFER: usize = 16 * 1024;

const BACK_OFF: Duration = Duration::from_millis(50);
/// Ten seconds: a restart with a drain before it.
const RETRIES: u32 = 200;

/// The proxy answers a CONNECT without asking anybody.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 * 1024;
