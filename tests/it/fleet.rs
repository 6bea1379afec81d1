//! Vehicles on both workers, and who is where.

use crate::client::Client;
use crate::gateway::Gateway;

pub struct Fleet {
    pub vehicles: Vec<Client>,
    /// Positions in `vehicles` of those on each worker; neither is empty.
    pub workers: [Vec<usize>; 2],
}

impl Fleet {
    /// At least `count` registered vehicles, `car-0` and on.
    pub fn register(gateway: &Gateway, count: usize) -> Fleet {
        let mut vehicles: Vec<Client> = Vec::new();
        for n in 0..64 {
            vehicles.push(Client::connect(gateway.addr).register(&format!("car-{n}")));
            if n + 1 >= count
                && let Some(halves) = gateway.halves()
            {
                let at = |id: &String| vehicles.iter().position(|vehicle| vehicle.id == *id).expect("one of ours");
                let workers = halves.map(|half| half.iter().map(at).collect());
                return Fleet { vehicles, workers };
            }
        }
        panic!("the kernel gave 64 connections to one worker");
    }

    /// Two vehicles on different workers.
    pub fn across(&mut self) -> [&mut Client; 2] {
        let pair = [self.workers[0][0], self.workers[1][0]];
        self.vehicles.get_disjoint_mut(pair).expect("two vehicles")
    }

    /// Two vehicles on one worker.
    pub fn beside(&mut self) -> [&mut Client; 2] {
        let both = self.workers.iter().find(|worker| worker.len() > 1).expect("three vehicles on two workers");
        let pair = [both[0], both[1]];
        self.vehicles.get_disjoint_mut(pair).expect("two vehicles")
    }
}
