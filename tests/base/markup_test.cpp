// Text that came from outside, inside of markup.
#include "base/markup.h"

#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(Markup, TextIsNoMarkup) {
  EXPECT_EQ(markup_text("a<b> & \"c\" 'd'\n"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;&#10;");
  EXPECT_EQ(markup_text("\x01\xff\xc3\xa4"), " \xEF\xBF\xBD\xc3\xa4");
}

TEST(Markup, MarkdownStaysInItsCell) {
  EXPECT_EQ(markdown_text("a|b\n*c* [d](e) #f"), "a\\|b \\*c\\* \\[d\\](e) \\#f");
}

}  // namespace
}  // namespace repquant
