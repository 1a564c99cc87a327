#pragma once

// CUDA's words for a C++ compiler: runs a kernel launch on one CPU thread.
//
// Blocks run one after the other in a random order, so a result that depends on their order shows.
// The threads of a block are coroutines that change hands at barriers, and where the lanes of a
// warp talk to each other, alone; in between they run in a random order, so a missing barrier shows
// too. A call of part of a warp stops the program. Failed assertions are counted.

// First, since it has a macro of its own for assertions.
#include <c10/macros/Macros.h>
#include <sanitizer/common_interface_defs.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define __syncthreads() cuda_on_cpu::block().wait(0)
#define __syncthreads_or(predicate) cuda_on_cpu::block().wait(predicate)
#undef CUDA_KERNEL_ASSERT
#define CUDA_KERNEL_ASSERT(condition) \
  if (!(condition)) ++cuda_on_cpu::failed_assertions
#define FGCLIP_DET_DYNAMIC_SHARED(name) unsigned char* name = cuda_on_cpu::dynamic_shared.get()

inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

namespace cuda_on_cpu {

struct Index {
  unsigned x;
};
inline Index thread, block_index, block_size, grid_size;
inline int failed_assertions = 0;
inline std::unique_ptr<unsigned char[]> dynamic_shared;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};
inline std::vector<Copy> copies[1024];  // of each thread

// One block: its threads as coroutines, the barrier between them, and what the lanes of a warp tell
// each other.
class Block {
 public:
  static constexpr size_t kStack = 256 * 1024;
  static constexpr int kMaxThreads = 1024, kWarp = 32;

  Block() : stacks_(new char[kStack * kMaxThreads]), threads_(kMaxThreads) {}

  // Runs `body` once for each thread.
  template <typename Body>
  void run(int threads, const Body& body, std::mt19937& random) {
    size_ = threads;
    call_ = [](const void* which) { (*static_cast<const Body*>(which))(); };
    body_ = &body;
    for (int i = 0; i < size_; ++i) {
      start(i);
    }
    std::vector<int> order(size_);
    for (int i = 0; i < size_; ++i) {
      order[i] = i;
    }
    any_ = false;
    while (count(kDone) < size_) {
      std::shuffle(order.begin(), order.end(), random);
      for (const int i : order) {
        if (threads_[i].state == kReady) {
          resume(i);
        }
      }
      // Now everyone waits or has ended: first warps go on, then, if none did, the block.
      bool goes_on = false;
      for (int first = 0; first < size_; first += kWarp) {
        goes_on = deliver(first) || goes_on;
      }
      if (!goes_on && count(kDone) < size_) {
        pass_barrier();
      }
    }
  }

  bool wait(bool predicate) {
    any_ = any_ || predicate;
    leave(current_, kAtBarrier);
    return said_;
  }

  // Tells the other lanes of the warp a word, and returns what the lanes told, once all did.
  // `call`: of what kind, the same for all lanes.
  const uint64_t* tell(int call, uint64_t word) {
    Thread& thread = threads_[current_];
    thread.call = call;
    thread.told = word;
    leave(current_, kAtWarp);
    return heard_[cuda_on_cpu::thread.x / kWarp];
  }

 private:
  enum State { kReady, kAtBarrier, kAtWarp, kDone };

  struct Thread {
    ucontext_t context;
    void* fake_stack;
    State state;
    int call;
    uint64_t told;
  };

  int count(State state) const {
    return static_cast<int>(
        std::count_if(threads_.begin(), threads_.begin() + size_,
                      [&](const Thread& thread) { return thread.state == state; }));
  }

  // Lets a warp go on whose lanes have all told their word.
  bool deliver(int first) {
    const int end = std::min(first + kWarp, size_);
    int telling = 0;
    for (int i = first; i < end; ++i) {
      telling += threads_[i].state == kAtWarp && threads_[i].call == threads_[first].call;
    }
    if (telling == 0 && threads_[first].state != kAtWarp) {
      return false;
    }
    if (telling != kWarp) {
      std::fprintf(stderr, "%d lanes of a warp wait for each other\n", telling);
      std::abort();
    }
    for (int i = first; i < end; ++i) {
      heard_[first / kWarp][i - first] = threads_[i].told;
      threads_[i].state = kReady;
    }
    return true;
  }

  void pass_barrier() {
    if (count(kAtBarrier) != size_) {
      std::fprintf(stderr, "%d of %d threads ended, the others wait at a barrier\n", count(kDone),
                   size_);
      std::abort();
    }
    for (int i = 0; i < size_; ++i) {
      threads_[i].state = kReady;
    }
    said_ = any_;
    any_ = false;
  }

  char* stack(int i) { return stacks_.get() + kStack * i; }

  void start(int i) {
    Thread& thread = threads_[i];
    thread.state = kReady;
    thread.fake_stack = nullptr;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = stack(i);
    thread.context.uc_stack.ss_size = kStack;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, [] { block_->enter(); }, 0);
  }

  void enter() {
    __sanitizer_finish_switch_fiber(nullptr, &host_stack_, &host_size_);
    call_(body_);
    leave(current_, kDone);
  }

  void resume(int i) {
    current_ = i;
    block_ = this;
    cuda_on_cpu::thread = {static_cast<unsigned>(i)};
    __sanitizer_start_switch_fiber(&host_fake_stack_, stack(i), kStack);
    swapcontext(&host_, &threads_[i].context);
    __sanitizer_finish_switch_fiber(host_fake_stack_, nullptr, nullptr);
  }

  void leave(int i, State state) {
    threads_[i].state = state;
    void** fake_stack = state == kDone ? nullptr : &threads_[i].fake_stack;
    __sanitizer_start_switch_fiber(fake_stack, host_stack_, host_size_);
    swapcontext(&threads_[i].context, &host_);
    __sanitizer_finish_switch_fiber(threads_[i].fake_stack, &host_stack_, &host_size_);
  }

  inline static Block* block_ = nullptr;
  std::unique_ptr<char[]> stacks_;
  std::vector<Thread> threads_;
  uint64_t heard_[kMaxThreads / kWarp][kWarp];
  ucontext_t host_;
  void* host_fake_stack_ = nullptr;
  const void* host_stack_ = nullptr;
  size_t host_size_ = 0;
  void (*call_)(const void*) = nullptr;
  const void* body_ = nullptr;
  int size_ = 0, current_ = 0;
  bool any_ = false, said_ = false;
};

inline Block& block() {
  static Block only;
  return only;
}

enum Call { kShuffle, kShuffleXor = kShuffle + 32, kBallot = kShuffleXor + 32 };

inline int lane() { return static_cast<int>(thread.x) % Block::kWarp; }

template <typename T>
T shuffle(int call, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  word = block().tell(call, word)[source];
  std::memcpy(&value, &word, sizeof(T));
  return value;
}

// What the kernels' host side calls instead of <<<>>>.
struct Launch {
  std::mt19937& random;
  int most_blocks;  // fewer than a GPU takes, so that kernels must loop over what is left
  int64_t most_shared;

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int blocks, int threads, int64_t shared_bytes,
                  const Arguments&... arguments) const {
    if (blocks < 1 || threads < 1 || threads > 1024 || shared_bytes > most_shared) {
      std::fprintf(stderr, "a launch of %d blocks, %d threads, %lld bytes\n", blocks, threads,
                   static_cast<long long>(shared_bytes));
      std::abort();
    }
    blocks = std::min(blocks, most_blocks);
    block_size = {static_cast<unsigned>(threads)};
    grid_size = {static_cast<unsigned>(blocks)};
    std::vector<int> order(blocks);
    for (int i = 0; i < blocks; ++i) {
      order[i] = i;
    }
    std::shuffle(order.begin(), order.end(), random);
    for (const int i : order) {
      block_index = {static_cast<unsigned>(i)};
      dynamic_shared.reset(new unsigned char[shared_bytes]);
      std::memset(dynamic_shared.get(), 0xff, shared_bytes);
      block().run(threads, [&] { kernel(arguments...); }, random);
    }
  }
};

}  // namespace cuda_on_cpu

template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  return cuda_on_cpu::shuffle(cuda_on_cpu::kShuffle, value, source & 31);
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int reach) {
  return cuda_on_cpu::shuffle(cuda_on_cpu::kShuffleXor + reach, value, cuda_on_cpu::lane() ^ reach);
}

inline unsigned __ballot_sync(unsigned, bool predicate) {
  const uint64_t* told = cuda_on_cpu::block().tell(cuda_on_cpu::kBallot, predicate);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) {
    bits |= static_cast<unsigned>(told[i]) << i;
  }
  return bits;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }

// Copies that are on their way until the thread waits for them: here they arrive then.
inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) {
  cuda_on_cpu::copies[cuda_on_cpu::thread.x].push_back({to, from, bytes});
}
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(size_t) {
  for (const auto& copy : cuda_on_cpu::copies[cuda_on_cpu::thread.x]) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  cuda_on_cpu::copies[cuda_on_cpu::thread.x].clear();
}

#define threadIdx cuda_on_cpu::thread
#define blockIdx cuda_on_cpu::block_index
#define blockDim cuda_on_cpu::block_size
#define gridDim cuda_on_cpu::grid_size
