//! The link over zenoh: inside one process, or between processes of one machine.
//!
//! Callbacks run on zenoh's receive threads, where a slow one would stall every key of a peer: they
//! only move buffers into a slot. Data is sent with congestion `Drop`: `Block` would hang the
//! publisher and then close the transport when one peer is stuck.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use vlad_wire::codec::Packet;
use vlad_wire::stream::{Lane, Row};
use zenoh::bytes::ZBytes;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::pubsub::Subscriber;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{ConsolidationMode, Query, Queryable};
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait};

use crate::buffer::Buffers;
use crate::config::ZenohConfig;
use crate::error::{BusError, LinkError};
use crate::link::promise::{Debt, Promise};
use crate::link::slot::Slot;
use crate::link::zenoh::pool::Pool;
use crate::link::{Feed, Handed, Link, Parcel, Put, Question, Reply, TokenChange};

pub(crate) mod pool;
mod session;

/// The link over one zenoh session.
pub(crate) struct Zenoh {
    session: Session,
    /// Bytes of the pool; 0 where no memory is shared.
    pool_bytes: usize,
    pool: Arc<OnceLock<Buffers>>,
}

impl Zenoh {
    pub(crate) async fn open(config: &ZenohConfig) -> Result<Self, BusError> {
        let pool_bytes = pool_bytes(config);
        Ok(Self {
            session: session::open(config, pool_bytes != 0).await?,
            pool_bytes,
            pool: Arc::default(),
        })
    }
}

/// Gives how much memory to share: none inside one process, where bytes go by reference, and none
/// where as much cannot be locked. Such a process could map no other's pool either, and would lose
/// every message in it, since a peer that has agreed to share sends nothing else.
fn pool_bytes(config: &ZenohConfig) -> usize {
    let n_bytes = usize::from(config.shared_memory_mib) * 1024 * 1024;
    if n_bytes == 0 || (config.listen.is_empty() && config.connect.is_empty()) {
        return 0;
    }
    // Made and dropped: only who asks for buffers keeps a pool.
    match Pool::new(n_bytes) {
        Ok(_) => n_bytes,
        Err(error) => {
            warn_of_no_pool(n_bytes, &error);
            0
        }
    }
}

fn warn_of_no_pool(n_bytes: usize, error: &LinkError) {
    tracing::warn!(
        n_bytes,
        error,
        "no shared memory: the limit of locked memory (ulimit -l) or /dev/shm is too small"
    );
}

/// Urgent messages are served first, on a link of their own where there are two.
fn priority(lane: Lane) -> Priority {
    match lane {
        Lane::Control => Priority::InteractiveHigh,
        Lane::Bulk => Priority::Data,
    }
}

fn key_error(key: &str) -> impl FnOnce(LinkError) -> BusError {
    |source| BusError::Key {
        key: key.to_owned(),
        source,
    }
}

fn send_error(key: &str) -> impl FnOnce(LinkError) -> BusError {
    |source| BusError::Send {
        key: key.to_owned(),
        source,
    }
}

/// Splits a packet into payload and attachment: a small message has no attachment.
fn into_buffers(packet: Packet) -> (ZBytes, Option<ZBytes>) {
    if packet.raw.is_empty() {
        (packet.head.into(), None)
    } else {
        (packet.raw.into(), Some(packet.head.into()))
    }
}

/// Takes a contiguous buffer over without copying; gathers others.
pub(crate) fn into_bytes(buffer: ZBytes) -> Bytes {
    let mut slices = buffer.slices();
    let (first, second) = (slices.next(), slices.next());
    match (first, second) {
        (None, _) => Bytes::new(),
        (Some(_), None) => Bytes::from_owner(Contiguous(buffer)),
        (Some(_), Some(_)) => Bytes::from(buffer.to_bytes().into_owned()),
    }
}

struct Contiguous(ZBytes);

impl AsRef<[u8]> for Contiguous {
    fn as_ref(&self) -> &[u8] {
        self.0.slices().next().unwrap_or_default()
    }
}

fn parcel(sample: &Sample) -> Parcel {
    Parcel::Zenoh {
        payload: sample.payload().clone(),
        attachment: sample.attachment().cloned(),
    }
}

impl Link for Zenoh {
    fn publish(&self, key: String, row: &Row) -> Result<Box<dyn Put>, BusError> {
        let declared = self
            .session
            .declare_publisher(key.clone())
            .congestion_control(CongestionControl::Drop)
            .priority(priority(row.lane))
            .express(true)
            .wait();
        let publisher = declared.map_err(key_error(&key))?;
        Ok(Box::new(ZenohPut {
            publisher,
            pool: Arc::clone(&self.pool),
        }))
    }

    fn subscribe(
        &self,
        keys: &str,
        _row: &Row,
        slot: Arc<Slot<Parcel>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let on_sample = move |sample: Sample| {
            if sample.kind() == SampleKind::Put {
                slot.offer(sample.key_expr().as_str(), parcel(&sample));
            }
        };
        let declared = self
            .session
            .declare_subscriber(keys)
            .callback(on_sample)
            .wait();
        Ok(Box::new(declared.map_err(key_error(keys))?))
    }

    fn serve(
        &self,
        key: &str,
        _row: &Row,
        slot: Arc<Slot<Question>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let on_query = move |query: Query| {
            let parcel = Parcel::Zenoh {
                payload: query.payload().cloned().unwrap_or_default(),
                attachment: query.attachment().cloned(),
            };
            let key = query.key_expr().to_string();
            slot.offer(
                &key,
                Question {
                    parcel,
                    reply: Box::new(ZenohReply { query }),
                },
            );
        };
        let declared = self
            .session
            .declare_queryable(key)
            .callback(on_query)
            .wait();
        Ok(Box::new(declared.map_err(key_error(key))?))
    }

    fn ask(&self, key: &str, row: &Row, packet: Packet, timeout: Duration) -> Arc<Promise> {
        let promise = Promise::new(None);
        let debt = Debt::new(&promise);
        let on_reply = move |reply: zenoh::query::Reply| {
            if let Ok(sample) = reply.result() {
                debt.pay(0, parcel(sample));
            }
        };
        let (payload, attachment) = into_buffers(packet);
        let asked = self
            .session
            .get(key)
            .payload(payload)
            .attachment(attachment)
            .congestion_control(CongestionControl::Drop)
            .priority(priority(row.lane))
            .express(true)
            // The default waits for every server before it hands over the first answer.
            .consolidation(ConsolidationMode::None)
            .timeout(timeout)
            .callback(on_reply)
            .wait();
        if let Err(source) = asked {
            promise.break_with(BusError::Send {
                key: key.to_owned(),
                source,
            });
        }
        promise
    }

    fn put_raw(&self, key: &str, lane: Lane, packet: Packet) -> Result<(), BusError> {
        let (payload, attachment) = into_buffers(packet);
        let put = self
            .session
            .put(key, payload)
            .attachment(attachment)
            .congestion_control(CongestionControl::Drop)
            .priority(priority(lane))
            .express(true)
            .wait();
        put.map_err(send_error(key))
    }

    fn declare_token(&self, key: String) -> Result<Box<dyn Feed>, BusError> {
        let declared = self.session.liveliness().declare_token(key.clone()).wait();
        Ok(Box::new(declared.map_err(key_error(&key))?))
    }

    fn watch_tokens(
        &self,
        keys: &str,
        slot: Arc<Slot<TokenChange>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let on_change = move |sample: Sample| {
            let key = sample.key_expr().to_string();
            let alive = sample.kind() == SampleKind::Put;
            slot.offer(sample.key_expr().as_str(), TokenChange { key, alive });
        };
        let liveliness = self.session.liveliness();
        let declared = liveliness
            .declare_subscriber(keys)
            .history(true)
            .callback(on_change)
            .wait();
        Ok(Box::new(declared.map_err(key_error(keys))?))
    }

    fn buffers(&self) -> Buffers {
        if self.pool_bytes == 0 {
            return Buffers::default();
        }
        let make = || match Pool::new(self.pool_bytes) {
            Ok(pool) => Buffers::of_pool(Arc::new(pool)),
            Err(error) => {
                warn_of_no_pool(self.pool_bytes, &error);
                Buffers::default()
            }
        };
        self.pool.get_or_init(make).clone()
    }

    fn peers(&self) -> usize {
        self.session.info().peers_zid().wait().count()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Err(error) = self.session.close().await {
                tracing::warn!(%error, "the bus did not close cleanly");
            }
        })
    }
}

struct ZenohPut {
    publisher: Publisher<'static>,
    pool: Arc<OnceLock<Buffers>>,
}

impl Put for ZenohPut {
    fn put(&self, packet: Packet) -> Result<Handed, BusError> {
        let pool = self.pool.get().and_then(Buffers::pool);
        let shared = pool.and_then(|pool| pool.find(&packet.raw));
        let (handed, (payload, attachment)) = match shared {
            Some(payload) => (Handed::Shared, (payload, Some(packet.head.into()))),
            None => (Handed::Bytes, into_buffers(packet)),
        };
        let put = self.publisher.put(payload).attachment(attachment).wait();
        put.map_err(send_error(self.publisher.key_expr().as_str()))?;
        Ok(handed)
    }
}

struct ZenohReply {
    query: Query,
}

impl Reply for ZenohReply {
    fn send(self: Box<Self>, packet: Packet) -> Result<(), BusError> {
        let (payload, attachment) = into_buffers(packet);
        let key = self.query.key_expr();
        let sent = self.query.reply(key, payload).attachment(attachment).wait();
        sent.map_err(send_error(key.as_str()))
    }
}

impl Feed for Subscriber<()> {}
impl Feed for Queryable<()> {}
impl Feed for LivelinessToken {}
