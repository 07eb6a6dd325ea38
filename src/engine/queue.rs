//! A queue of images from which any number of engines take batches. If an engine fails, the others take
//! over its images. Results come in order if wanted, and few wait for earlier ones.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use super::{Engine, EngineError, Request, RequestError};

/// An engine, and its batch.
pub struct Worker {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Images at once.
    pub batch: usize,
}

/// Images to compute.
pub struct QueuedWork<'a> {
    /// Indices of the images, ascending.
    pub todo: &'a [Range<u64>],
    /// The request for images of some indices.
    pub request: &'a (dyn Fn(&[u64]) -> Result<Request, RequestError> + Sync),
    /// True if images must come in order.
    pub in_order: bool,
    /// Images that may wait for an earlier one.
    pub most_waiting: usize,
    /// Called with the number of pixels computed since, or taken back.
    pub progress: &'a (dyn Fn(i64) + Sync),
}

/// A finished image, with the results that were wanted.
#[derive(Default)]
pub struct Done {
    /// Its index.
    pub index: u64,
    /// `[H, W, C]`
    pub levels: Vec<u16>,
    /// Per pixel.
    pub log_likelihood: Vec<f64>,
    /// Per pixel, `[H, W, P]`.
    pub parameters: Vec<f32>,
    /// The number of the worker that computed it.
    pub by: usize,
}

/// Computes all images, and passes each to `put`. `lost` is called for each worker that fails before the
/// last; the others take over its images.
///
/// # Errors
/// The error of `put`, which stops everything, or of the last worker.
pub fn drive<E: From<EngineError>>(
    workers: &mut [Worker],
    work: &QueuedWork,
    put: &mut dyn FnMut(Done) -> Result<(), E>,
    lost: &mut dyn FnMut(&str, EngineError),
) -> Result<(), E> {
    if workers.is_empty() {
        return Ok(());
    }
    let queue = Queue {
        state: Mutex::new(QueueState {
            todo: work.todo.iter().cloned().collect(),
            returned: Vec::new(),
            idle: workers.len(),
            working: 0,
            waiting: 0,
            is_over: false,
        }),
        changed: Condvar::new(),
        most_waiting: work.most_waiting,
    };
    let count = workers.len();
    let mut order = work.todo.iter().cloned().flatten().peekable();
    let mut early = BTreeMap::new();
    let mut failed = 0;
    let mut handle = |event| {
        let mut put = |image: Done| {
            queue.taken();
            put(image).inspect_err(|_| queue.end())
        };
        match event {
            Event::Done(image) if work.in_order => {
                early.insert(image.index, image);
                while let Some(image) = order.peek().and_then(|next| early.remove(next)) {
                    order.next();
                    put(image)?;
                }
            }
            Event::Done(image) => put(image)?,
            Event::Failed(name, error) => {
                failed += 1;
                if failed == count {
                    return Err(error.into());
                }
                lost(&name, error);
            }
        }
        Ok(())
    };
    // Alone, it needs no thread beside its own.
    if let [worker] = workers {
        let mut result = Ok(());
        worker.work(0, &queue, work, &mut |event| {
            if result.is_ok() {
                result = handle(event);
            }
        });
        return result;
    }
    thread::scope(|scope| {
        let (sender, drawn) = mpsc::channel();
        for (number, worker) in workers.iter_mut().enumerate() {
            let (queue, sender) = (&queue, sender.clone());
            let run = move || {
                worker.work(number, queue, work, &mut |event| {
                    // A closed channel means that an error has stopped everything.
                    let _ = sender.send(event);
                });
            };
            let name = format!("engine {number}");
            if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, run) {
                queue.end();
                return Err(EngineError::Threads(error.to_string()).into());
            }
        }
        drop(sender);
        drawn.into_iter().try_for_each(handle)
    })
}

enum Event {
    Done(Done),
    Failed(String, EngineError),
}

impl Worker {
    fn work(&mut self, number: usize, queue: &Queue, work: &QueuedWork, emit: &mut dyn FnMut(Event)) {
        while let Some(indices) = queue.next(self.batch) {
            let count = indices.len();
            let mut shown = 0;
            let mut run = || {
                let request = (work.request)(&indices)?;
                let mut watch = |done: usize| {
                    (work.progress)((done.saturating_sub(shown) * count) as i64);
                    shown = shown.max(done);
                };
                let outcome = self.engine.run(&request, &mut watch)?;
                watch(request.pixels());
                Ok(outcome)
            };
            match run() {
                Ok(outcome) => {
                    queue.done(count);
                    for (i, index) in indices.into_iter().enumerate() {
                        emit(Event::Done(Done {
                            index,
                            levels: part(&outcome.levels, i, count),
                            log_likelihood: part(&outcome.log_likelihood, i, count),
                            parameters: part(&outcome.parameters, i, count),
                            by: number,
                        }));
                    }
                }
                Err(error) => {
                    (work.progress)(-((shown * count) as i64));
                    queue.give_back(indices);
                    emit(Event::Failed(self.engine.name(), error));
                    return;
                }
            }
        }
    }
}

/// The part of image `i` of `count`.
fn part<T: Copy>(of_all: &[T], i: usize, count: usize) -> Vec<T> {
    let of_one = of_all.len() / count;
    of_all[i * of_one..][..of_one].to_vec()
}

/// The images that are not computed yet.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    most_waiting: usize,
}

struct QueueState {
    todo: VecDeque<Range<u64>>,
    /// Batches of failed workers; they come first, because others wait for them.
    returned: Vec<Vec<u64>>,
    /// Workers that have no batch.
    idle: usize,
    /// Workers that have one, which may come back.
    working: usize,
    /// Images that are drawn, and not stored yet.
    waiting: usize,
    is_over: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next images, at most `batch`; none if all are drawn, or the queue is stopped.
    fn next(&self, batch: usize) -> Option<Vec<u64>> {
        let mut state = self.lock();
        loop {
            if state.is_over || state.is_done() {
                return None;
            }
            let may_go_on = !state.returned.is_empty() || state.waiting < self.most_waiting;
            if let Some(indices) = may_go_on.then(|| state.take(batch)).flatten() {
                state.idle -= 1;
                state.working += 1;
                return Some(indices);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, images: usize) {
        let mut state = self.lock();
        state.working -= 1;
        state.idle += 1;
        state.waiting += images;
        self.changed.notify_all();
    }

    fn give_back(&self, indices: Vec<u64>) {
        let mut state = self.lock();
        state.working -= 1;
        state.returned.push(indices);
        self.changed.notify_all();
    }

    /// Counts an image as stored.
    fn taken(&self) {
        self.lock().waiting -= 1;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }
}

impl QueueState {
    fn is_done(&self) -> bool {
        self.todo.is_empty() && self.returned.is_empty() && self.working == 0
    }

    fn take(&mut self, batch: usize) -> Option<Vec<u64>> {
        if let Some(mut indices) = self.returned.pop() {
            if indices.len() > batch {
                self.returned.push(indices.split_off(batch));
            }
            return Some(indices);
        }
        // All workers share the last images, so that no worker draws them alone.
        let left: u64 = self.todo.iter().map(|range| range.end - range.start).sum();
        let share = left.div_ceil((self.idle + self.working) as u64);
        let mut indices = Vec::new();
        while let (Some(range), true) =
            (self.todo.front_mut(), indices.len() < (batch as u64).min(share) as usize)
        {
            match range.next() {
                Some(index) => indices.push(index),
                None => _ = self.todo.pop_front(),
            }
        }
        if self.todo.front().is_some_and(Range::is_empty) {
            self.todo.pop_front();
        }
        (!indices.is_empty()).then_some(indices)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
mod tests {
    use std::time::Duration;

    use std::sync::atomic::{AtomicI64, Ordering};

    use crate::engine::{Counts, Outcome, Room, Shape};
    use crate::head::Head;

    use super::*;

    fn shape() -> Shape {
        Shape { height: 1, width: 1, head: Head::logistic_mixture(1, 1), classes: 0 }
    }

    /// Draws the low bits of an image's index, one pixel, until it fails.
    struct Fake {
        jobs_before_failure: usize,
        milliseconds: u64,
    }

    impl Engine for Fake {
        fn name(&self) -> String {
            "fake".to_owned()
        }

        fn predictor(&self) -> crate::engine::cost::Predictor {
            crate::engine::cost::Predictor::of_layers()
        }

        fn prepare(&mut self, room: Room) -> Result<usize, EngineError> {
            Ok(match room {
                Room::For(n) | Room::UpTo(n) => n,
            })
        }

        fn shape(&self) -> Shape {
            shape()
        }

        fn run(&mut self, request: &Request, watch: &mut dyn FnMut(usize)) -> Result<Outcome, EngineError> {
            thread::sleep(Duration::from_millis(self.milliseconds));
            watch(1);
            if self.jobs_before_failure == 0 {
                return Err(EngineError::Device("it fell off the bus".to_owned()));
            }
            self.jobs_before_failure -= 1;
            let level = |lane: &crate::engine::Lane| u16::from(lane.index as u8);
            Ok(Outcome { levels: request.lanes().iter().map(level).collect(), ..Outcome::default() })
        }

        fn counts(&self) -> Counts {
            Counts::default()
        }

        fn bytes(&self) -> u64 {
            0
        }
    }

    /// Indices as they come from workers of (jobs before failure, milliseconds a job).
    fn run(workers: &[(usize, u64)], in_order: bool) -> (Result<(), EngineError>, Vec<u64>) {
        let worker = |&(jobs_before_failure, milliseconds): &(usize, u64)| Worker {
            engine: Box::new(Fake { jobs_before_failure, milliseconds }),
            batch: 4,
        };
        let mut workers: Vec<_> = workers.iter().map(worker).collect();
        let pixels = AtomicI64::new(0);
        let work = QueuedWork {
            todo: &[0..50, 60..71],
            request: &|indices| Request::sample(shape(), 0, indices.iter().map(|&i| (i, None))),
            in_order,
            most_waiting: 8,
            progress: &|more| _ = pixels.fetch_add(more, Ordering::Relaxed),
        };
        let mut indices = Vec::new();
        let mut put = |done: Done| {
            assert_eq!(done.levels, [u16::from(done.index as u8)]);
            indices.push(done.index);
            Ok(())
        };
        let result = drive(&mut workers, &work, &mut put, &mut |_, _| {});
        if result.is_ok() {
            assert_eq!(pixels.into_inner(), 61, "each pixel is counted once");
        }
        (result, indices)
    }

    const NEVER: usize = usize::MAX;

    #[test]
    fn every_image_is_drawn_once_and_in_order() {
        let expected: Vec<_> = (0..50).chain(60..71).collect();
        for workers in [
            &[(NEVER, 0)][..],
            &[(NEVER, 0), (NEVER, 5)],
            &[(NEVER, 1), (3, 1), (0, 3)],
            // The one that holds the first images fails when the others wait for it.
            &[(0, 100), (NEVER, 0)],
        ] {
            for in_order in [true, false] {
                let (result, mut indices) = run(workers, in_order);
                result.unwrap();
                if !in_order {
                    indices.sort_unstable();
                }
                assert_eq!(indices, expected);
            }
        }
    }

    #[test]
    fn it_is_an_error_if_all_fail() {
        for workers in [&[(3, 0)][..], &[(2, 0), (4, 1)]] {
            let (result, indices) = run(workers, true);
            assert!(result.unwrap_err().to_string().contains("it fell off the bus"));
            assert_eq!(indices, (0..indices.len() as u64).collect::<Vec<_>>());
            assert!(indices.len() < 61);
        }
    }

    #[test]
    fn an_image_that_cannot_be_put_ends_all() {
        let engine = || Box::new(Fake { jobs_before_failure: NEVER, milliseconds: 1 });
        let mut workers = [0, 1].map(|_| Worker { engine: engine(), batch: 2 });
        let work = QueuedWork {
            todo: &[0..u64::MAX],
            request: &|indices| Request::sample(shape(), 0, indices.iter().map(|&i| (i, None))),
            in_order: true,
            most_waiting: 8,
            progress: &|_| {},
        };
        let mut count = 0;
        let mut put = |_| {
            count += 1;
            if count < 10 { Ok(()) } else { Err(EngineError::Stopped) }
        };
        let result = drive(&mut workers, &work, &mut put, &mut |_, _| {});
        assert!(matches!(result, Err(EngineError::Stopped)));
    }
}
