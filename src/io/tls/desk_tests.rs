use super::*;
use crate::io::tls::session::tests::greeted;

#[test]
fn a_turn_encrypts_so_much_and_no_more() {
    let (session, encryption) = greeted();
    let mut desk = Desk::of_port(&encryption);
    let conn = ConnId { index: 3, generation: 1 };
    desk.sessions.insert(conn.index, session);
    let bytes = vec![7; 3 * limits::TLS_SEND_BYTES_MAX];
    desk.begin_turn();
    // As if each were another's.
    let sends = 2 * limits::TLS_TURN_BYTES_MAX / limits::TLS_SEND_BYTES_MAX;
    (0..sends as u32).for_each(|position| desk.seal(position, conn, &bytes, false));
    assert!(desk.arena.len() < limits::TLS_TURN_BYTES_MAX + 2 * limits::TLS_SEND_BYTES_MAX);
    let is_later = |sealed: &Sealed| matches!(sealed.how, SealedHow::Later);
    let first = desk.sealed.iter().position(is_later).expect("not all of them");
    assert!(desk.sealed.len() == sends && desk.sealed[first..].iter().all(is_later));
    assert!(
        matches!(desk.sealed[0].how, SealedHow::Arena { taken, .. } if taken as usize == limits::TLS_SEND_BYTES_MAX)
    );
    desk.begin_turn();
    assert!(desk.arena.capacity() <= limits::TLS_SCRATCH_BYTES_KEPT_MAX && desk.sealed.is_empty());
}
