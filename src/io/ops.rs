//! What the requests on the data ring are, and how a completion names its own.

use crate::turn::ConnId;

/// Operations, numbered from 1 in this order.
macro_rules! operations {
    ($($op:ident),+ $(,)?) => {
        /// What a completion is about: the first eight bits of its user data.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op {
            $($op),+
        }

        const ALL: &[Op] = &[$(Op::$op),+];
    };
}

operations! {
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
}

impl Op {
    pub(super) fn of(user_data: u64) -> Option<Op> {
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
        (self as u64 + 1) << 56 | u64::from(conn.generation & 0x00ff_ffff) << 32 | u64::from(conn.index)
    }
}
