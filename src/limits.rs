//! Every bound that an operator cannot set, unit in its name, and the reasons for the numbers.
//!
//! What an operator can set is in [`crate::config`]; every queue in Ringroad is bounded by one or the other.

/// HTTP request head, request line included. Browsers stay under 8 KiB with cookies.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header lines in one request.
pub const REQUEST_HEADERS_MAX: usize = 64;

/// PROXY header, version 2, after its first 16 bytes: addresses and what else a load balancer tells. Its makers advise
/// senders to stay below 536 bytes in all.
pub const PROXY_HEADER_BYTES_MAX: usize = 2 * 1024;

/// Connections of a worker that were not let in and are still told so; more are closed without a word.
pub const TURNED_AWAY_MAX: usize = 1024;

/// The longest time after which a client that was refused is told to come back.
pub const RETRY_AFTER_S_MAX: u64 = 60;

/// RFC 6455, section 5.5: "All control frames MUST have a payload length of 125 bytes or less".
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Rendered position events that a shard keeps for connections whose flush is still to come. One that is older is
/// rendered again. At 100,000 updates a second, the last 180 ms.
pub const RENDERED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes composed for one submission. Larger turns go out in several: what has just been written is still in the processor's
/// second cache when the kernel reads it. With 4 MiB a city's capacity was a third less.
pub const TURN_BYTES_MAX: usize = 256 * 1024;

/// An outbox longer than this is sent in pieces of this size, alone. Copying one costs about as much as the kernel's own
/// work for it.
pub const OUTBOX_PIECE_BYTES: usize = 64 * 1024;

/// By this part of its interval may a ping, or a list that comes without a change, be late: 0.4 s of 25 s. What is due
/// within that time goes out at once, so a worker with many idle connections wakes a few times a second.
pub const REST_SLACK_PART: u64 = 64;

/// Emptied outboxes that a shard keeps for the next events: as many as a turn with as many sends needs, twice.
pub const SPARE_OUTBOXES_MAX: usize = 1024;

/// None larger than this is kept.
pub const SPARE_OUTBOX_BYTES_MAX: usize = 4 * 1024;

/// Sends in one submission: at 2 to 10 µs each, a few milliseconds. Larger turns go out in several.
pub const TURN_SENDS_MAX: usize = 512;

/// As many times its bound is what the broadcast log holds while a turn does not end: its newest bytes are still on their
/// way to connections that are not slow. Beyond, those are closed too.
pub const LOG_WITHIN_A_TURN_FACTOR: usize = 8;

/// Broadcasts and positions are copied behind a connection's own events up to this; beyond, they get a send of their
/// own. Copying 16 KiB costs about as much as a system call.
pub const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Positions in one send to one connection: what a reader that takes no more holds up at most. What is left stays marked.
pub const FLUSH_BYTES_MAX: usize = 64 * 1024;

/// Identities that a connection in `ringroad.v1` is taken to remember, beyond those of twice what it sees. 16 bytes each.
pub const NAMES_KEPT_MAX: usize = 512;

/// How long the states of a vehicle that has raised an alert say so.
pub const EMERGENCY_SHOWN_MS: u64 = 60_000;

/// Lines of one `nearby_vehicles` list, nearest first.
pub const NEARBY_LIST_MAX: usize = 256;

/// What one turn does for the vehicles that moved, and for those that choose whom they see: candidates and pairs that are
/// looked at, each about 5 ns.
pub const SETTLE_WORK_MAX: usize = 1_000_000;

/// What an event about a neighbour counts in this.
pub const EVENT_WORK: usize = 40;

/// What a line of a list of neighbours counts in this.
pub const LINE_WORK: usize = 16;

/// So many vehicles a view may look at for its token; it costs another for each time as many: about a millisecond.
pub const LOOKS_PER_REQUEST: usize = 10_000;

/// What a look at a vehicle for one of its watchers counts in this: 50 to 90 ns.
pub const SIGHT_WORK: usize = 12;

/// Beyond `outbox_bytes_max`, what pings, pongs and a close may still take of an outbox.
pub const CONTROL_RESERVE_BYTES: usize = 4 * 1024;

/// How long a closing connection may take to take its last bytes and to close its own side.
pub const CLOSE_MS_MAX: u64 = 2_000;

/// A closing connection that has taken this much of its last bytes in that time is given it again: the listing of a
/// large fleet over a thin line.
pub const CLOSE_BYTES_MIN: usize = 64 * 1024;

/// `connect_request`s of one shard that wait for their answer.
pub const PENDING_REQUESTS_MAX: usize = 100_000;

/// Notes kept for another shard of this host whose inbox is full. Comings and goings are kept beyond.
pub const MESH_NOTES_MAX: usize = 65_536;

/// Time between two attempts to reach a shard whose inbox was full.
pub const MESH_RETRY_MS: u64 = 1;

/// How long a shard remembers that a vehicle left, and how far it had emptied its buckets. News between shards is much
/// younger than this, and no bucket takes longer to fill unless an operator says so.
pub const DEPARTED_MS: u64 = 10_000;

/// Bytes of event text in them. Events of one client are bounded by its rate limits; these are everyone's together.
pub const MESH_NOTES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// HTTP listings that one shard gathers at a time; twice as many if they are metrics.
pub const LISTINGS_MAX: usize = 16;

/// Connections that one turn looks at for a scrape: a third of a millisecond or so.
pub const CENSUS_CONNS_MAX: u32 = 16 * 1024;

/// How long a listing waits for the other shards.
pub const LISTING_MS_MAX: u64 = 1_000;

/// A fix that is older than the newest one is late, unless the newest one arrived longer ago than this: then the
/// sender's clock was set back.
pub const LATE_FIX_MS: u64 = 10_000;

/// A timestamp further in the future than this is the sender's mistake; the gateway's clock is used instead.
pub const FUTURE_FIX_MS: u64 = 60_000;

/// Payload of one radio frame: a message of 512 characters, each of at most four bytes.
pub const RADIO_PAYLOAD_BYTES_MAX: usize = 512 * 4;

/// Longer than any pause within a radio frame: at the slowest speed a byte takes 8 ms, and an adapter's buffer some
/// tens. What has begun by then is given up.
pub const RADIO_QUIET_MS: u64 = 500;

/// Completions that one run of the pump hands to the core before monoio gets its turn (timers, other I/O).
pub const PUMP_COMPLETIONS_MAX: usize = 4096;

/// Times one run of the pump looks for more completions before monoio gets its turn.
pub const PUMP_ROUNDS_MAX: usize = 16;

/// Turns of the core that one round carries out; a core that always has more continues in the next round.
pub const ROUND_TURNS_MAX: usize = 64;

/// Time after which a round carries out no more turns. Before the next one the worker accepts, receives and takes its
/// mail, so this is what a crowd may add to everybody's latency. A turn that has begun is carried out.
pub const ROUND_MS_MAX: u64 = 10;

/// A worker that is busy for less than the first share of its time sends every position at once; beyond the second one, at
/// the pace of `vehicles.flush_busy_ms`. A send of one position costs about as much as one of thirty, so up to four tenths of
/// a core the lowest latency is to be had for what nobody else needs.
pub const FLUSH_LOAD_PERCENT: (u8, u8) = (40, 60);
const _: () = assert!(FLUSH_LOAD_PERCENT.0 < FLUSH_LOAD_PERCENT.1 && FLUSH_LOAD_PERCENT.1 <= 100);

/// Flushes that a connection may be ahead of the pace of a busy worker. Thirty positions a second come at random; with four
/// to spare one in a thousand of them has to wait at a pace of 10 ms.
pub const FLUSHES_TO_SPARE: u64 = 4;

/// Replaced positions that a world keeps for those who wait for their flush; about 90 bytes each. At 100,000 updates a
/// second it reaches back 330 ms: a machine's neighbours may stop it for that long.
pub const PAST_MAX: usize = 32 * 1024;

/// So many of one vehicle does one flush bring beside the newest: at 20 reports a second it may be 300 ms late before
/// anything is lost.
pub const PAST_MOVES_MAX: u32 = 6;

/// And none that is older than this: whoever is so far behind wants to know where the others are now.
pub const PAST_MS_MAX: u64 = 250;

/// How often a worker reckons how busy it is, and over what time it means that.
pub const LOAD_STEP_MS: u64 = 10;
/// See [`LOAD_STEP_MS`].
pub const LOAD_MEMORY_MS: u64 = 200;

/// Time for which a round hands completions to the core before it carries out turns: half, so that neither who sends nor
/// who reads can have a worker for itself.
pub const ROUND_RECEIVE_MS_MAX: u64 = ROUND_MS_MAX / 2;

/// Time after which one run of the pump begins no further round: monoio gets its turn.
pub const PUMP_MS_MAX: u64 = ROUND_MS_MAX;

/// For how long after it has fallen asleep a worker lets completions lie, so that many are worth one wake-up: at 5,000
/// messages per second one, at 50,000 ten. It adds at most this much latency, and none where less comes. What it saves
/// is in docs/decisions/0002-ring-features.md.
pub const LINGER_US: u32 = 200;

/// So many completions end that time.
pub const LINGER_COMPLETIONS: u32 = 64;

/// A worker with nothing to do looks around this often: an hour.
pub const SLEEP_MS_MAX: u64 = 3_600_000;

/// Batches that wait in one worker's mesh inbox; what does not fit goes back to its sender.
pub const INBOX_BATCHES_MAX: usize = 1024;

/// Bytes that wait for the serial line; at 57,600 baud a little more than a second.
pub const RADIO_PENDING_BYTES_MAX: usize = 8 * 1024;

/// Time until a lost radio device is tried again.
pub const RADIO_REOPEN_MS: u64 = 5_000;

/// Time until a listener that ran out of descriptors tries again, if none of ours was closed meanwhile.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Ids of delivered alerts that a host remembers, to drop those that come again: about 3 MB once full. Repetitions bring
/// what all workers of a node keep, a thousand each unless an operator says so.
pub const ALERT_IDS_MAX: usize = 65_536;

/// Pieces in which the alerts of one worker may come while older ones are missing. Further pieces are asked for once
/// more.
pub const ALERT_PIECES_MAX: usize = 64;

/// Workers of other nodes whose alerts are numbered, once for each tenant that has raised any there: those of 1,024 nodes
/// with 16 cores and four such tenants each, or of 16 nodes with 256.
pub const ALERT_STREAMS_MAX: usize = 65_536;

/// The largest number of an alert, and of anything else that travels as a JSON number: 2^53.
pub const SEQ_MAX: u64 = 1 << 53;

/// Beats that pass at most before alerts which did not come are asked for again.
pub const AGAIN_PAUSE_BEATS_MAX: u32 = 64;

/// What an envelope adds to the event within.
pub const ENVELOPE_BYTES_MAX: usize = 512;

/// Tenants whose newest alerts one beat can name: all that there are.
pub const HEADS_MAX: usize = crate::config::keys::TENANTS_MAX;

/// A beat: for each tenant with alerts a name, a number and what JSON needs.
pub const BEAT_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + HEADS_MAX * (crate::config::keys::NAME_CHARS_MAX + 16 + 4);

/// Time between two beats of a worker. What a host has missed, it learns from the next one.
pub const BEAT_MS: u64 = 1_000;

/// How long a worker that ends waits for Redis to take its last words.
pub const LEAVING_MS_MAX: u64 = 500;

/// Vehicles that left while Redis was away, until it is told. What is forgotten is found with the next reading.
pub const DEPARTURES_MAX: usize = 65_536;

/// Entries of the presence hash are written again with at most this much waiting for Redis.
pub const REWRITE_BYTES_MAX: usize = 256 * 1024;

/// Positions are held back, and conflate, while more than this waits for Redis: at 8 MB/s an eighth of a second.
pub const STATES_IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;

/// A bus frame longer than this is not one of Ringroad's; records may grow.
pub const BUS_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Beyond the exit radius, how far around a vehicle squares are listened to: at 50 m/s two seconds ahead. So far around
/// one of another host that is followed, too.
pub const SQUARE_MARGIN_M: f64 = 100.0;

/// Squares that one view may lie in where hosts are joined: five million square kilometres on the equator, and around a
/// pole what the largest `near` needs, seven rows of all 1,024 columns.
pub const VIEW_SQUARES_MAX: usize = 8_192;

/// A frame that was published before what is known of its vehicle has come another way, over the listener to another
/// square, which was quicker. Not by more than this; else a clock was set back.
pub const CROSSED_MS: u64 = 1_000;

/// Vehicles in one question where they are.
pub const WHERE_VEHICLES_MAX: usize = 100;

/// Vehicles that a worker asks for at a time.
pub const WHERE_ASKED_MAX: usize = 32 * WHERE_VEHICLES_MAX;

/// Least time until it asks for more.
pub const WHERE_MS: u64 = 100;

/// Time until a vehicle that has not been found is asked for again, at first; then it doubles.
pub const WHERE_PAUSE_MS: u64 = 500;

/// The most that it becomes.
pub const WHERE_PAUSE_MS_MAX: u64 = 4_000;

/// Such a question, or its answer: for each vehicle an id, a square and what JSON needs.
pub const WHERE_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + WHERE_VEHICLES_MAX * (40 + 4 + 6);

/// Time between two readings of the presence hash.
pub const READ_EVERY_MS: u64 = 30_000;

/// Time until a reading that somebody has reason for: those of a burst make one.
pub const READ_SOON_MS: u64 = 500;

/// Time until a reading that was broken off begins again.
pub const READ_AGAIN_MS: u64 = 1_000;

/// An entry that has been missing, or too many, for this long is not just on its way.
pub const ABSENT_MS: u64 = 5_000;

/// Vehicles of other hosts that are asked for after one reading, because their entries are missing. The others have to
/// wait for the next.
pub const DOUBTS_MAX: usize = 1_024;

/// Own vehicles whose entries are missing and are written one by one. If there are more, all of them are.
pub const ASSERTS_MAX: usize = 256;

/// Entries that one step of a reading looks at.
pub const SCAN_COUNT: &str = "512";

/// Positions of vehicles that a worker has not been told of yet. Beyond, they have to wait for their next.
pub const EARLY_MAX: usize = 16_384;

/// How long they are kept: until a reading of the presence hash has surely found who they are, also if the vehicle had
/// been somewhere else a moment ago ([`DEPARTED_MS`]).
pub const EARLY_MS_MAX: u64 = READ_EVERY_MS + DEPARTED_MS + ABSENT_MS;

/// By how much a position may outrun the registration that it belongs to, if their times do not tell.
pub const EARLY_UNDATED_MS: u64 = 500;

/// A vehicle that has registered on another host keeps the position that was known of it for this long, unless it is
/// heard of from there.
pub const UNCONFIRMED_MS: u64 = 10_000;

/// Time between two looks at all vehicles for the squares that they are in.
pub const WALK_MS: u64 = 50;

/// How long the lock of a sweep holds if its holder dies.
pub const SWEEP_LOCK_MS: u64 = 2_000;

/// Commands of one worker that wait for a shared bucket: 50 ms at 200,000 a second, far more than shared buckets are for.
pub const HELD_MAX: usize = 10_000;

/// Bytes of text in them.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a command waits for a shared bucket. Then the host decides alone: an alert must not wait for Redis.
pub const SHARED_LIMIT_MS_MAX: u64 = 50;

/// Messages of one worker to vehicles of other nodes of which it has not heard whether they were delivered.
pub const DIRECTS_MAX: usize = 10_000;

/// How long it waits to hear. Then the recipient counts as offline, as one does that has left.
pub const DIRECT_MS_MAX: u64 = 800;

/// Vehicles that a gateway knows, other hosts' included, before it takes no more of those: about 200 bytes each and core.
pub const VEHICLES_KNOWN_MAX: usize = 4_000_000;

/// Other nodes that a steward knows.
pub const NODES_MAX: usize = 1_024;

/// Least time between two looks whether a silent node's key is still there.
pub const NODE_LOOK_MS: u64 = 1_000;

/// The longest lease that another node is believed to have. One that says more is looked at after this.
pub const NODE_LEASE_MS_MAX: u64 = 600_000;

/// A worker looks this often at what it takes of the machine: one system call, and worker 0 reads a file.
pub const USAGE_MS: u64 = 1_000;

/// Least time between two equal warnings of one worker.
pub const WARN_MS: u64 = 10_000;

/// Connections that wait in one listener's queue. The kernel caps it at `net.core.somaxconn`, so the host decides.
pub const BACKLOG_CONNS: i32 = 65_535;

/// Links to Redis that one worker has at a time. A Cluster has at most about 1,000 nodes.
pub const LINKS_MAX: usize = 1024;

/// Bytes of one link that the kernel has not taken. Redis itself gives up a subscriber behind by 32 MiB.
pub const LINK_UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a link may read at once: then it is another's turn.
pub const LINK_READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes that all links of a worker have read and its core has not got. As long as there are more, none reads.
pub const LINK_PILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads that a link still makes once a send has failed: the server may have said why.
pub const LINK_LAST_READS_MAX: usize = 4;

/// Buffers of links keep at most this much memory once they are empty.
pub const LINK_BYTES_KEPT_MAX: usize = 64 * 1024;

/// Time for one address of a server to answer, and then for its TLS handshake.
pub const LINK_CONNECT_MS_MAX: u64 = 3_000;

/// Time until a connect is tried again that found the queue of a socket in the file system full.
pub const LINK_CONNECT_RETRY_MS: u64 = 10;

/// Time for the name of a server to be resolved: one question that was lost, and the next.
pub const LINK_RESOLVE_MS_MAX: u64 = 8_000;

/// Threads of one worker that resolve names. The system's resolver may keep one for half a minute.
pub const LINK_RESOLVERS_MAX: usize = 4;

/// Time until a name is looked at again that found all of them busy.
pub const LINK_RESOLVE_RETRY_MS: u64 = 50;

/// Addresses of one name that are tried.
pub const LINK_ADDRESSES_MAX: usize = 8;

/// How long a server's kernel may be silent: to bytes that were sent, or to probes.
pub const LINK_SILENCE_MS_MAX: u64 = 12_000;

/// Connections that are let go of in a drain go in steps of this length: those of one step are announced as gone in one
/// send to each who stays.
pub const DRAIN_STEP_MS: u64 = 50;

/// How long a listener that drains still accepts. It takes no new connection meanwhile, but those whose handshake is
/// under way: one round trip, and what a lost packet adds to it. What it ignored comes again a second after it was sent
/// (RFC 6298, section 2), when somebody else listens.
pub const LISTENER_LINGER_MS: u64 = 500;

/// How often the main thread looks which of the places that log too much have come to the end of their period.
pub const LOG_LOOK_MS: u64 = 1_000;

/// Time that a core has to say goodbye after it was told to stop.
pub const STOP_MS_MAX: u64 = 2_000;

/// Time that requests of the data ring have to end once the worker itself ends.
pub const QUIESCE_MS_MAX: u64 = 200;

/// The scratch that carries the rests of short sends keeps at most this much between turns.
pub const REST_BYTES_KEPT_MAX: usize = 1024 * 1024;

/// Aggregates within aggregates in what a Redis server sends. `CLUSTER SLOTS`, the deepest that is asked for, has four.
pub const RESP_DEPTH_MAX: usize = 16;

/// Longest reply that is read: the presence of some hundred thousand vehicles in one.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest message that is read: the positions of 100,000 vehicles in one frame.
pub const PUSH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Commands of one worker that wait for their replies. At 4 KiB each, what a server answers in about 20 ms.
pub const BACKPLANE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A Redis link may take this long until commands can be sent.
pub const LINK_READY_MS_MAX: u64 = 3_000;

/// A link on which something waits for an answer is given up when nothing at all has been received for this long.
pub const LINK_SILENT_MS_MAX: u64 = 3_000;

/// A link on which nothing has been received for this long is asked whether it is still there.
pub const LINK_PING_MS: u64 = 1_000;

/// Time until a lost link is tried again: below this at first, doubled with every failure.
pub const LINK_RETRY_MS: u64 = 50;

/// The most that it becomes.
pub const LINK_RETRY_MS_MAX: u64 = 1_000;

/// A link that was ready for this long begins again with the shortest time.
pub const LINK_STEADY_MS: u64 = 5_000;

/// A worker that comes this much later than it was asked to has stood still, and its servers are not to blame for the
/// silence.
pub const STANDSTILL_MS: u64 = 500;

/// Channels in one SUBSCRIBE: large enough to be cheap, small enough that no server is busy with it for long.
pub const SUBSCRIBE_CHANNELS_MAX: usize = 512;

/// Time between two comparisons of the subscriptions that are wanted with those that are confirmed.
pub const RECONCILE_MS: u64 = 10_000;

/// A subscription that was not confirmed within this time is asked for again.
pub const SUBSCRIBE_MS_MAX: u64 = 5_000;

/// How long Sentinels are waited for when one of them has answered where the master is, or none has.
pub const SENTINEL_ANSWER_MS_MAX: u64 = 500;

/// Sentinels that a client talks to. Few services have more than five.
pub const SENTINELS_MAX: usize = 16;

/// A Sentinel that another one named, and that could not be reached this often, is forgotten until it is named again.
pub const SENTINEL_FAILURES_MAX: u32 = 8;

/// Masters of one Cluster that a client talks to; its makers advise against more nodes.
pub const CLUSTER_NODES_MAX: usize = 1_000;

/// Least time between two questions where the slots are. A move of many slots causes many errors at once.
pub const SLOTS_MS_MIN: u64 = 100;

/// How long a node is waited for that was asked where the slots are; then another one is asked.
pub const SLOTS_ANSWER_MS_MAX: u64 = 1_000;

/// Time between two questions where the slots are while everything works: a server may keep silent about a move.
pub const SLOTS_MS: u64 = 10_000;

/// How often a command follows a Cluster that points elsewhere.
pub const REDIRECTS_MAX: u32 = 5;

/// How long a client waits for the rest of a Cluster's masters before it chooses one of those that are there.
pub const HOME_MS_MAX: u64 = 200;

/// A node that has left its Cluster may still answer what it was asked.
pub const NODE_LEAVE_MS_MAX: u64 = 3_000;

const _: () = assert!(LINK_PING_MS < LINK_SILENT_MS_MAX && LINK_RETRY_MS < LINK_RETRY_MS_MAX);

const _: () = assert!(ACCEPT_RETRY_MS < STOP_MS_MAX && QUIESCE_MS_MAX < STOP_MS_MAX);

const _: () = assert!(LEAVING_MS_MAX < STOP_MS_MAX && BUS_RECORDS_MAX * 40 + 48 < BUS_FRAME_BYTES_MAX);

/// How long a host still listens to a square after its last vehicle there has gone: who waits at a border does not
/// subscribe with every metre.
pub const SQUARE_LINGER_MS: u64 = 10_000;

/// How long the other shards of a host keep what was heard there if the one that listens does not say when it has
/// stopped: it says so, unless what it goes by was late.
pub const SQUARE_KEPT_MS: u64 = 60_000;

const _: () = assert!(SQUARE_LINGER_MS < SQUARE_KEPT_MS);

/// States in one bus frame: 40 KiB, so that a server's reply buffers stay small.
pub const BUS_RECORDS_MAX: usize = 1024;

/// Time between two answers to asks for one square. Many hosts that come back together ask at the same time.
pub const ASK_MS: u64 = 1_000;

/// Squares in which a worker remembers that it has just answered an ask; 24 bytes each. A host has vehicles in far
/// fewer.
pub const ASKED_SQUARES_MAX: usize = 16_384;

/// Numbered streams of bus frames that a worker follows: one for each square, node and worker. About
/// 64 bytes each.
pub const STREAMS_MAX: usize = 262_144;

/// A bus frame with an older number than the newest is late, unless that one came longer ago than this: then its
/// sender has begun anew, with a clock that was set back.
pub const STREAM_LATE_MS: u64 = 10_000;

const _: () = assert!(BUS_RECORDS_MAX <= u16::MAX as usize, "a frame counts its records in two bytes");

const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX < REQUEST_HEAD_BYTES_MAX);
const _: () = assert!(TURN_BYTES_MAX < RENDERED_BYTES_MAX && RENDERED_BYTES_MAX < u32::MAX as usize / 2);

const _: () = assert!(JOINED_BYTES_MAX < OUTBOX_PIECE_BYTES && OUTBOX_PIECE_BYTES < TURN_BYTES_MAX);

/// A token. Those with many claims have 1 or 2 KiB; one that came in a request head had no more room anyway.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Keys that tokens are checked with. A set has two while keys are changed.
pub const TOKEN_KEYS_MAX: usize = 32;

/// A file of keys: 32 RSA keys in a set are 20 KiB.
pub const KEY_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Time between two looks whether the file of keys has changed.
pub const KEY_FILE_LOOK_MS: u64 = 1_000;

/// A connection's token is looked at this often even if it lives for days: the clock may have been set.
pub const TOKEN_LOOK_MS_MAX: u64 = 3_600_000;

/// Connections to the private address that wait for their worker; more are closed.
pub const PRIVATE_WAITING_MAX: usize = 64;

/// A file of certificates or of a key: a chain of four has 8 KiB.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Bytes of TLS that wait until a record, or a message of a handshake, is whole. The longest record: its header, 16 KiB and
/// what encryption may add (RFC 5246, section 6.2.3). A longer handshake is nobody's.
pub const TLS_WAITING_BYTES_MAX: usize = 5 + 16 * 1024 + 2 * 1024;

/// Of one send, so much is encrypted at a time. What the kernel does not take of it waits encrypted; the rest stays with
/// the core, where positions can still be replaced.
pub const TLS_SEND_BYTES_MAX: usize = OUTBOX_PIECE_BYTES;

/// Of one turn, about so much is encrypted: what goes to everyone is there once for each. Who comes behind it is sent to in
/// the next turn.
pub const TLS_TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The scratch in which a turn's sends are encrypted keeps at most this much between turns.
pub const TLS_SCRATCH_BYTES_KEPT_MAX: usize = 1024 * 1024;
