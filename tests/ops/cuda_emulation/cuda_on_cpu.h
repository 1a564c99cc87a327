#pragma once

// CUDA's words for a C++ compiler: runs a kernel launch on one CPU thread.
//
// Blocks run one after the other in a random order, so a result that depends on their order shows.
// The threads of a block are coroutines that change hands at barriers alone, between two barriers
// in a random order, so a missing barrier shows too. Failed assertions are counted.

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

// One block: its threads as coroutines, and the barrier between them.
class Block {
 public:
  static constexpr size_t kStack = 256 * 1024;
  static constexpr int kMaxThreads = 1024;

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
    for (int left = size_; left > 0;) {
      std::shuffle(order.begin(), order.end(), random);
      any_ = false;
      for (const int i : order) {
        resume(i);
      }
      said_ = any_;
      const int done = static_cast<int>(
          std::count_if(order.begin(), order.end(), [&](int i) { return threads_[i].done; }));
      if (done != 0 && done != size_) {
        std::fprintf(stderr, "%d of %d threads ended, the others wait at a barrier\n", done, size_);
        std::abort();
      }
      left = size_ - done;
    }
  }

  bool wait(bool predicate) {
    any_ = any_ || predicate;
    leave(current_, false);
    return said_;
  }

 private:
  struct Thread {
    ucontext_t context;
    void* fake_stack;
    bool done;
  };

  char* stack(int i) { return stacks_.get() + kStack * i; }

  void start(int i) {
    Thread& thread = threads_[i];
    thread.done = false;
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
    threads_[current_].done = true;
    leave(current_, true);
  }

  void resume(int i) {
    current_ = i;
    block_ = this;
    cuda_on_cpu::thread = {static_cast<unsigned>(i)};
    __sanitizer_start_switch_fiber(&host_fake_stack_, stack(i), kStack);
    swapcontext(&host_, &threads_[i].context);
    __sanitizer_finish_switch_fiber(host_fake_stack_, nullptr, nullptr);
  }

  void leave(int i, bool for_good) {
    void** fake_stack = for_good ? nullptr : &threads_[i].fake_stack;
    __sanitizer_start_switch_fiber(fake_stack, host_stack_, host_size_);
    swapcontext(&threads_[i].context, &host_);
    __sanitizer_finish_switch_fiber(threads_[i].fake_stack, &host_stack_, &host_size_);
  }

  inline static Block* block_ = nullptr;
  std::unique_ptr<char[]> stacks_;
  std::vector<Thread> threads_;
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

// What the kernels' host side calls instead of <<<>>>.
struct Launch {
  std::mt19937& random;
  int most_blocks;  // fewer than a GPU takes, so that kernels must loop over what is left

  template <typename... Parameters, typename... Arguments>
  void operator()(void (*kernel)(Parameters...), int blocks, int threads, int64_t shared_bytes,
                  const Arguments&... arguments) const {
    if (blocks < 1 || threads < 1 || threads > 1024 || shared_bytes > 48 * 1024) {
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

#define threadIdx cuda_on_cpu::thread
#define blockIdx cuda_on_cpu::block_index
#define blockDim cuda_on_cpu::block_size
#define gridDim cuda_on_cpu::grid_size
