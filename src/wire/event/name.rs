//! The names of what clients are told, to write them and to count by them.

use crate::metrics::labels;
use crate::wire::json::EventKind;

labels! {
    /// What a message to a client is about.
    pub enum EventName for "event" {
        /// First on every connection.
        Connected = "connected",
        /// The vehicle is bound to this connection.
        Registered = "registered",
        /// The gateway will end.
        ServerShutdown = "server_shutdown",
        /// The token of this connection ends soon.
        TokenExpiring = "token_expiring",
        /// Answer to `heartbeat`.
        HeartbeatAck = "heartbeat_ack",
        /// A vehicle came or went.
        PresenceUpdate = "presence_update",
        /// Who is near.
        NearbyVehicles = "nearby_vehicles",
        /// Somebody came near, or is no longer.
        ProximityEvent = "proximity_event",
        /// A neighbour moved.
        PeerLocation = "peer_location",
        /// Positions in `ringroad.v1`: a binary message, which has no name on the wire.
        State = "state",
        /// Who belongs to a key.
        VehicleIdentity = "vehicle_identity",
        /// A vehicle has left the view.
        PeerGone = "peer_gone",
        /// What the connection watches now.
        Watching = "watching",
        /// Text from another vehicle.
        ReceiveMessage = "receive_message",
        /// Help is needed.
        EmergencyAlert = "emergency_alert",
        /// Text from the radio to everyone.
        RadioText = "radio_text",
        /// Passed on from another vehicle.
        ConnectRequest = "connect_request",
        /// Passed on from another vehicle.
        ConnectResponse = "connect_response",
        /// Passed on from another vehicle.
        CallInitiate = "call_initiate",
        /// Passed on from another vehicle.
        WebrtcOffer = "webrtc_offer",
        /// Passed on from another vehicle.
        WebrtcAnswer = "webrtc_answer",
        /// Passed on from another vehicle.
        IceCandidate = "ice_candidate",
        /// Passed on from another vehicle.
        SyncDisconnect = "sync_disconnect",
        /// Passed on from another vehicle.
        SyncEndCall = "sync_end_call",
        /// A message was not accepted.
        Error = "error",
        /// Something else that another server has published.
        Other = "other",
    }
}

impl EventName {
    /// The name of an event that another server has published.
    pub fn of(name: &str) -> EventName {
        use crate::metrics::Label;
        EventName::ALL.iter().copied().find(|one| one.as_str() == name).unwrap_or(EventName::Other)
    }
}

impl From<EventKind> for EventName {
    /// What a client's event is called when it is passed on; the others never are.
    fn from(kind: EventKind) -> EventName {
        match kind {
            EventKind::ConnectRequest => EventName::ConnectRequest,
            EventKind::ConnectResponse => EventName::ConnectResponse,
            EventKind::CallInitiate => EventName::CallInitiate,
            EventKind::WebrtcOffer => EventName::WebrtcOffer,
            EventKind::WebrtcAnswer => EventName::WebrtcAnswer,
            EventKind::IceCandidate => EventName::IceCandidate,
            EventKind::SyncDisconnect => EventName::SyncDisconnect,
            EventKind::SyncEndCall => EventName::SyncEndCall,
            EventKind::EmergencyAlert => EventName::EmergencyAlert,
            EventKind::Register
            | EventKind::Heartbeat
            | EventKind::LocationUpdate
            | EventKind::SendMessage
            | EventKind::View
            | EventKind::Near
            | EventKind::Follow => EventName::Other,
        }
    }
}
