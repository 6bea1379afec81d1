//! What the requests on the data ring are, and how a completion names its own.

use crate::turn::ConnId;

/// What a completion is about: the first eight bits of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Accept = 1,
    Recv,
    Send,
    Writable,
    Connect,
    RadioReadable,
    RadioWritable,
    CancelRecv,
    CancelWritable,
    CancelConnect,
    CancelOther,
    Woken,
}

impl Op {
    pub(super) fn of(user_data: u64) -> Option<Op> {
        use Op::*;
        const ALL: [Op; 12] = [
            Accept,
            Recv,
            Send,
            Writable,
            Connect,
            RadioReadable,
            RadioWritable,
            CancelRecv,
            CancelWritable,
            CancelConnect,
            CancelOther,
            Woken,
        ];
        // They are numbered in this order, from 1.
        ALL.get(((user_data >> 56) as usize).wrapping_sub(1)).copied()
    }

    /// What a cancel of this operation is.
    pub(super) fn cancel(self) -> Op {
        match self {
            Op::Recv => Op::CancelRecv,
            Op::Writable => Op::CancelWritable,
            Op::Connect => Op::CancelConnect,
            _ => Op::CancelOther,
        }
    }

    /// Operation (8 bits), generation (24), index (32).
    pub(super) fn tag(self, conn: ConnId) -> u64 {
        (self as u64) << 56 | u64::from(conn.generation & 0x00ff_ffff) << 32 | u64::from(conn.index)
    }
}
