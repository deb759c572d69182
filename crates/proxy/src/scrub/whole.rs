//! An answer read whole: for the daemon's own use, or because nothing of it may pass before all of it is known.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::host::Origin;
use http::Response;
use http_body::Body as _;

use super::codings::Coding;
use super::decode::{Decoder, Step};
use crate::BoxError;
use crate::body::Body;

/// An answer read to its end, its content codings taken off; one beyond `most` bytes, or that cannot be read, is the origin's
/// failure.
pub(crate) async fn whole(response: Response<Body>, origin: &Origin, most: usize) -> Result<Response<Bytes>, Denial> {
    let (parts, body) = response.into_parts();
    let failed = |why: String| Denial::new(DenialCode::UpstreamProtocol, format!("{} answered {why}", origin.host));
    let codings = Coding::all(&parts.headers).map_err(|unknown| failed(format!("in {unknown}")))?;
    let encoded = collect(body, most).await.map_err(&failed)?;
    let bytes = if codings.is_empty() { encoded } else { decode(&codings, encoded, most).map_err(failed)? };
    Ok(Response::from_parts(parts, bytes))
}

async fn collect(mut body: Body, most: usize) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error: BoxError| format!("and broke off: {error}"))?;
        add(&mut bytes, &frame.into_data().unwrap_or_default(), most)?;
    }
    Ok(bytes.freeze())
}

fn decode(codings: &[Coding], encoded: Bytes, most: usize) -> Result<Bytes, String> {
    let mut decoder = Decoder::new(codings);
    let mut bytes = BytesMut::new();
    decoder.feed(encoded);
    loop {
        match decoder.step().map_err(|error| format!("badly: {error}"))? {
            Step::Data(data) => add(&mut bytes, &data, most)?,
            Step::Working => {}
            Step::Hungry => break,
        }
    }
    decoder.finish().map_err(|error| format!("badly: {error}"))?;
    Ok(bytes.freeze())
}

fn add(bytes: &mut BytesMut, data: &[u8], most: usize) -> Result<(), String> {
    if bytes.len() + data.len() > most {
        return Err(format!("with more than {most} bytes"));
    }
    bytes.extend_from_slice(data);
    Ok(())
}
