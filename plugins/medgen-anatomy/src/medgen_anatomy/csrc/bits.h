// A binary image as rows of 64-bit words: pixel (r, c) is bit c % 64 of word c / 64 of row r; bits beyond the width are zero.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace anatomy {

using Word = std::uint64_t;

// Bits 0 ... n - 1 of a word, n from 0 to 64.
inline Word low_bits(int n) { return n >= 64 ? ~Word{0} : (Word{1} << n) - 1; }

// Rows [top, bottom) and columns [left, right) that hold every set pixel; empty where there is none.
struct Box {
  int top = 0, bottom = 0, left = 0, right = 0;
  bool empty() const { return top >= bottom; }
  bool touches(int height, int width) const { return top == 0 || left == 0 || bottom == height || right == width; }
  Box with(const Box& b) const { return {std::min(top, b.top), std::max(bottom, b.bottom), std::min(left, b.left), std::max(right, b.right)}; }
};

struct Bits {
  int height = 0, width = 0, words = 0;
  std::vector<Word> data;

  void reset(int h, int w) {
    height = h, width = w, words = (w + 63) / 64;
    data.assign(static_cast<std::size_t>(h) * words, 0);
  }
  void like(const Bits& other) { reset(other.height, other.width); }
  Word* row(int r) { return data.data() + static_cast<std::size_t>(r) * words; }
  const Word* row(int r) const { return data.data() + static_cast<std::size_t>(r) * words; }
  // The pixels that word k of a row has.
  Word valid(int k) const { return low_bits(width - 64 * k); }
  bool get(int r, int c) const { return row(r)[c >> 6] >> (c & 63) & 1; }

  void set(int r, int start, int end) {
    visit(row(r), start, end, [](Word& word, Word part) { word |= part; });
  }
  std::int64_t count(int r, int start, int end) const {
    std::int64_t sum = 0;
    visit(row(r), start, end, [&](const Word& word, Word part) { sum += std::popcount(word & part); });
    return sum;
  }
  std::int64_t count() const {
    std::int64_t sum = 0;
    for (const Word word : data) sum += std::popcount(word);
    return sum;
  }
  bool any() const {
    return std::any_of(data.begin(), data.end(), [](Word word) { return word != 0; });
  }

  // The first set column of [left, right) in a row, or -1.
  int first(int r, int left, int right) const {
    for (int k = left >> 6; 64 * k < right; ++k)
      if (const Word word = row(r)[k] & low_bits(right - 64 * k) & ~low_bits(left - 64 * k > 0 ? left - 64 * k : 0))
        return 64 * k + std::countr_zero(word);
    return -1;
  }

  Box box() const {
    Box found{height, 0, width, 0};
    for (int k = 0; k < words; ++k) {
      Word column = 0;
      for (int r = 0; r < height; ++r)
        if (const Word word = row(r)[k]) {
          column |= word;
          found.top = std::min(found.top, r), found.bottom = std::max(found.bottom, r + 1);
        }
      if (column) {
        found.left = std::min(found.left, 64 * k + std::countr_zero(column));
        found.right = 64 * k + 64 - std::countl_zero(column);
      }
    }
    return found.bottom ? found : Box{};
  }

 private:
  template <typename Pointer, typename Use>
  static void visit(Pointer words, int start, int end, Use use) {
    for (int k = start >> 6; 64 * k < end; ++k) use(words[k], low_bits(end - 64 * k) & ~low_bits(start - 64 * k > 0 ? start - 64 * k : 0));
  }
};

// Each pixel takes the value of its left or right neighbour; what comes in from outside the image is `outside`, 0 or 1.
inline Word from_left(const Word* row, int k, Word outside = 0) { return row[k] << 1 | (k ? row[k - 1] >> 63 : outside); }
inline Word from_right(const Bits& bits, const Word* row, int k, Word outside = 0) {
  const Word shifted = row[k] >> 1 | (k + 1 < bits.words ? row[k + 1] << 63 : 0);
  return k + 1 < bits.words ? shifted : shifted | outside << ((bits.width - 1) & 63);
}

// Which of 64 labels are `value`.
inline Word equal64(const std::uint8_t* labels, std::uint8_t value) {
#if defined(__AVX512BW__)
  return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(labels), _mm512_set1_epi8(static_cast<char>(value)));
#elif defined(__AVX2__)
  const __m256i wanted = _mm256_set1_epi8(static_cast<char>(value));
  const auto part = [&](int offset) {
    const __m256i found = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(labels + offset));
    return static_cast<Word>(static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(found, wanted))));
  };
  return part(0) | part(32) << 32;
#else
  Word found = 0;
  for (int i = 0; i < 64; ++i) found |= static_cast<Word>(labels[i] == value) << i;
  return found;
#endif
}

// The pixels of each of `values`, in images of the map's size; returns whether every pixel has one of them.
inline bool extract(const std::uint8_t* map, const std::vector<std::uint8_t>& values, std::vector<Bits>& out) {
  const int height = out[0].height, width = out[0].width, words = out[0].words;
  std::uint8_t tail[64] = {};
  Word strange = 0;
  for (int k = 0; k < words; ++k) {
    const int left = width - 64 * k;
    for (int r = 0; r < height; ++r) {
      const std::uint8_t* labels = map + static_cast<std::size_t>(r) * width + 64 * k;
      if (left < 64) labels = static_cast<const std::uint8_t*>(std::memcpy(tail, labels, left));
      Word known = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Word found = equal64(labels, values[i]) & low_bits(left);
        out[i].row(r)[k] = found;
        known |= found;
      }
      strange |= known ^ low_bits(left);
    }
  }
  return !strange;
}

// 3x3 erosion. What lies outside the image takes nothing away.
inline void erode(const Bits& in, const Box& box, Bits& out) {
  out.like(in);
  std::vector<Word> column(in.words + 1);
  const int first = std::max(0, (box.left >> 6) - 1), last = std::min(in.words, ((box.right + 63) >> 6) + 1);
  const Word outside = Word{1} << ((in.width - 1) & 63);
  for (int r = box.top; r < box.bottom; ++r) {
    const Word *here = in.row(r), *above = r > 0 ? in.row(r - 1) : here, *below = r + 1 < in.height ? in.row(r + 1) : here;
    for (int k = first; k < last; ++k) column[k] = above[k] & here[k] & below[k];
    Word* to = out.row(r);
    for (int k = first; k < last; ++k) {
      const Word left = column[k] << 1 | (k > first ? column[k - 1] >> 63 : k == 0);
      const Word right = column[k] >> 1 | (k + 1 < last ? column[k + 1] << 63 : k + 1 == in.words ? outside : 0);
      to[k] = column[k] & left & right;
    }
  }
}

// 3x3 dilation.
inline void dilate(const Bits& in, Bits& out) {
  out.like(in);
  std::vector<Word> column(in.words);
  for (int r = 0; r < in.height; ++r) {
    const Word *here = in.row(r), *above = r > 0 ? in.row(r - 1) : here, *below = r + 1 < in.height ? in.row(r + 1) : here;
    for (int k = 0; k < in.words; ++k) column[k] = above[k] | here[k] | below[k];
    Word* to = out.row(r);
    for (int k = 0; k < in.words; ++k) {
      const Word left = column[k] << 1 | (k ? column[k - 1] >> 63 : 0);
      const Word right = column[k] >> 1 | (k + 1 < in.words ? column[k + 1] << 63 : 0);
      to[k] = (column[k] | left | right) & in.valid(k);
    }
  }
}

inline std::int64_t count_common(const Bits& a, const Bits& b) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.data.size(); ++i) sum += std::popcount(a.data[i] & b.data[i]);
  return sum;
}

// Artefacts of morphology: fewer pixels than this share of the image, times 2^14.
inline bool is_small(std::int64_t area, const Bits& image) { return area * 16384 < static_cast<std::int64_t>(image.height) * image.width; }

// Calls use(r, c) for every set pixel in a box.
template <typename Use>
void each_pixel(const Bits& bits, const Box& box, Use use) {
  for (int r = box.top; r < box.bottom; ++r)
    for (int k = box.left >> 6; 64 * k < box.right; ++k)
      for (Word left = bits.row(r)[k]; left; left &= left - 1) use(r, 64 * k + std::countr_zero(left));
}

inline void complement(const Bits& in, Bits& out) {
  out.like(in);
  for (int r = 0; r < in.height; ++r)
    for (int k = 0; k < in.words; ++k) out.row(r)[k] = ~in.row(r)[k] & in.valid(k);
}

}  // namespace anatomy
