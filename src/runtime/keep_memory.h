// What a program does with memory that tensors leave.
#pragma once

namespace repquant {

/// Keeps blocks of freed tensors for those that come, up to an eighth of the room that there is and
/// at most 1 GB: pages that go back to the system are cleared anew each time, which took a quarter
/// of the time of `quantize`. Changes settings of the process: for programs, not for libraries.
void keep_freed_memory();

}  // namespace repquant
