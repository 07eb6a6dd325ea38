//! A device: opening it, its errors, its buffers, waiting for it and reading from it.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::adapter::Adapter;
use super::shaders::Reduction;
use super::speed::Speed;
use super::units::{QUAD, required_limits};
use super::{EngineError, Options};

/// A device that takes longer than this for a submission is lost.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes on their way to the device, at most. Until they have arrived, they lie in memory that both host and device
/// reach; many cards have 256 MB of it, shared by all programs.
const MOST_STAGED: u64 = 16 << 20;

/// Turns after which Mesa's software driver ends all loops of an invocation, and says nothing:
/// `LP_MAX_TGSI_LOOP_ITERATIONS` in its `lp_limits.h`.
const TURNS_OF_LLVMPIPE: u64 = 65_535;

/// An open device that remembers its first error.
pub struct OpenDevice {
    /// The adapter's name.
    pub name: String,
    /// The device itself.
    pub handle: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// The way in which it reduces partial sums.
    pub reduction: Reduction,
    /// Its assumed speed.
    pub speed: Speed,
    /// See [`DeviceFacts`](super::dispatch::DeviceFacts::turns).
    pub turns: u64,
    /// The longest time that a submission may take.
    pub timeout: Duration,
    failure: Failure,
    /// Buffers that the host can read and nothing goes through: as many as have been in use at once.
    staging: RefCell<Vec<wgpu::Buffer>>,
    /// Bytes on their way to the device, and the most that there have been.
    staged: Cell<u64>,
    most_staged: Cell<u64>,
}

/// A part of a buffer, in quads.
#[derive(Clone, Copy)]
pub struct BufferPart<'a> {
    /// The buffer.
    pub buffer: &'a wgpu::Buffer,
    /// Its first quad.
    pub start: usize,
    /// Its length in quads.
    pub quads: usize,
}

/// Parts of buffers on their way to the host.
pub struct Fetch {
    staging: wgpu::Buffer,
    /// Bytes of each.
    lengths: Vec<u64>,
}

impl Fetch {
    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        self.lengths.iter().sum()
    }
}

/// The first error that a device reported, or that it was lost.
type Failure = Arc<Mutex<Option<String>>>;

fn lock(failure: &Failure) -> MutexGuard<'_, Option<String>> {
    failure.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(failure: &Failure, what: String) {
    lock(failure).get_or_insert(what);
}

impl OpenDevice {
    /// Opens a device on an adapter.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the adapter gives none.
    pub fn open(adapter: &Adapter, options: Options) -> Result<Self, EngineError> {
        let adapter = adapter.handle();
        let info = adapter.get_info();
        let subgroups = options.subgroups
            && adapter.features().contains(wgpu::Features::SUBGROUP)
            && info.subgroup_min_size == info.subgroup_max_size;
        // Timestamps are for profiles.
        let wanted = wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::MEMORY_DECORATION_COHERENT
            | wgpu::Features::PIPELINE_CACHE;
        let mut required_features = adapter.features() & wanted;
        required_features.set(wgpu::Features::SUBGROUP, subgroups);
        let opened = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("pixelcnn"),
            required_features,
            required_limits: required_limits(&adapter.limits()),
            ..Default::default()
        }));
        let failed =
            |e: wgpu::RequestDeviceError| EngineError::Device(format!("{}: {}", info.name, line(&e)));
        let (handle, queue) = opened.map_err(failed)?;
        let failure = Failure::default();
        let (on_error, on_loss) = (Arc::clone(&failure), Arc::clone(&failure));
        handle.on_uncaptured_error(Arc::new(move |error: wgpu::Error| remember(&on_error, line(&error))));
        handle.set_device_lost_callback(move |_, message| {
            // A consequence of the loss may have been reported before the loss is.
            lock(&on_loss).replace(format!("the device was lost: {}", line(&message)));
        });
        let reduction = match subgroups {
            true => Reduction::Subgroup(info.subgroup_min_size),
            false => Reduction::Memory,
        };
        let speed = Speed::of(info.device_type.into());
        let turns = if info.driver == "llvmpipe" { TURNS_OF_LLVMPIPE } else { u64::MAX };
        Ok(Self {
            name: info.name,
            handle,
            queue,
            reduction,
            speed,
            turns,
            timeout: TIMEOUT,
            failure,
            staging: RefCell::default(),
            staged: Cell::default(),
            most_staged: Cell::default(),
        })
    }

    /// True if kernels may mark buffers as coherent. Metal's shading language before 3.2 cannot.
    pub fn has_coherence(&self) -> bool {
        self.handle.features().contains(wgpu::Features::MEMORY_DECORATION_COHERENT)
    }

    /// An error of this device.
    pub fn error(&self, what: impl std::fmt::Display) -> EngineError {
        EngineError::Device(format!("{}: {}", self.name, line(&what)))
    }

    /// Fails if the device has reported an error.
    ///
    /// # Errors
    ///
    /// The first that it reported.
    pub fn check(&self) -> Result<(), EngineError> {
        lock(&self.failure).as_ref().map_or(Ok(()), |what| Err(self.error(what)))
    }

    /// A buffer, undefined as yet.
    pub fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.handle.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&format!("pixelcnn {label}")),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A buffer with contents, whose bytes are a multiple of four.
    ///
    /// # Errors
    /// [`EngineError::Device`] if there is not enough memory for it, or the device fails.
    pub fn filled(
        &self,
        label: &str,
        contents: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, EngineError> {
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let made = self.if_there_is_memory(|| self.buffer(label, contents.len() as u64, usage))?;
        let size = || super::mebibytes(contents.len() as u64);
        let buffer = made.ok_or_else(|| {
            self.error(format_args!("its memory does not hold the model: no room for {label}, {}", size()))
        })?;
        self.write(&buffer, 0, contents)?;
        Ok(buffer)
    }

    /// Writes to a buffer from a place on; both are multiples of four bytes. Waits for the device where much is on its
    /// way to it.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn write(&self, buffer: &wgpu::Buffer, start: u64, contents: &[u8]) -> Result<(), EngineError> {
        for (part, contents) in (0..).zip(contents.chunks(MOST_STAGED as usize)) {
            if self.staged.get() + contents.len() as u64 > MOST_STAGED {
                self.wait(self.queue.submit([]))?;
                self.staged.set(0);
            }
            self.queue.write_buffer(buffer, start + part * MOST_STAGED, contents);
            self.staged.set(self.staged.get() + contents.len() as u64);
            self.most_staged.set(self.most_staged.get().max(self.staged.get()));
        }
        Ok(())
    }

    /// The most bytes that have been on their way to the device at once.
    #[cfg(test)]
    pub fn most_staged(&self) -> u64 {
        self.most_staged.get()
    }

    /// The value of `make`, or `None` if there is not enough memory for it.
    ///
    /// # Errors
    ///
    /// Any other error that the device reports meanwhile.
    pub fn if_there_is_memory<T>(&self, make: impl FnOnce() -> T) -> Result<Option<T>, EngineError> {
        let memory = self.handle.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        let out_of_memory = pollster::block_on(memory.pop()).is_some();
        self.check()?;
        Ok((!out_of_memory).then_some(made))
    }

    /// An encoder of commands.
    pub fn encoder(&self, label: &str) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
        self.handle.create_command_encoder(&descriptor)
    }

    /// Waits for a submission.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the device fails, or takes unreasonably long.
    pub fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), EngineError> {
        let poll = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(self.timeout) };
        let polled = self.handle.poll(poll);
        match polled {
            Ok(_) => {}
            Err(wgpu::PollError::Timeout) => {
                remember(&self.failure, format!("it has not answered for {} s", self.timeout.as_secs()));
                // When the last handle of a queue goes, wgpu waits for it, however long: so this one stays.
                std::mem::forget(self.queue.clone());
            }
            // A device that is lost takes no submission, and wgpu says that it was lost when the last one has ended.
            Err(_) => {
                let all = wgpu::PollType::Wait { submission_index: None, timeout: Some(self.timeout) };
                let _ = self.handle.poll(all);
            }
        }
        self.check()?;
        polled.map(drop).map_err(|e| self.error(e))
    }

    /// Encodes copies of parts of buffers into memory that the host can read. Later submissions do not disturb them.
    pub fn fetch(&self, encoder: &mut wgpu::CommandEncoder, parts: &[BufferPart]) -> Fetch {
        let lengths: Vec<_> = parts.iter().map(|part| QUAD * part.quads as u64).collect();
        let size = lengths.iter().sum();
        let free = self.staging.borrow_mut().pop().filter(|staging| staging.size() >= size);
        let staging = free.unwrap_or_else(|| {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            self.buffer("read-back", size, usage)
        });
        let mut to = 0;
        for (part, length) in parts.iter().zip(&lengths) {
            encoder.copy_buffer_to_buffer(part.buffer, QUAD * part.start as u64, &staging, to, *length);
            to += length;
        }
        Fetch { staging, lengths }
    }

    /// The numbers of what was fetched in a submission, which is waited for.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn collect<T: bytemuck::Pod>(
        &self,
        fetch: Fetch,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<Vec<T>>, EngineError> {
        let size = fetch.bytes();
        let Fetch { staging, lengths } = fetch;
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, ..size, move |result| _ = sender.send(result));
        self.wait(submission)?;
        match receiver.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(self.error(e)),
            Err(_) => return Err(self.error("a buffer was not read back")),
        }
        let values = {
            let view = staging.get_mapped_range(..size).map_err(|e| self.error(e))?;
            let mut rest = &view[..];
            let mut next = |length: &u64| {
                let (part, others) = rest.split_at(*length as usize);
                rest = others;
                bytemuck::pod_collect_to_vec(part)
            };
            lengths.iter().map(&mut next).collect()
        };
        staging.unmap();
        self.staging.borrow_mut().push(staging);
        Ok(values)
    }
}

/// A message of several lines as one.
fn line(message: &impl std::fmt::Display) -> String {
    let text = message.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_of_several_lines_become_one() {
        let wgpus = "Validation Error\n\nCaused by:\n  In Device::create_buffer\n    Buffer is invalid\n";
        assert_eq!(
            super::line(&wgpus),
            "Validation Error; Caused by:; In Device::create_buffer; Buffer is invalid"
        );
    }
}
