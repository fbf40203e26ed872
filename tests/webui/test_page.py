"""The steps of the browser tests themselves: a click that is lost is made again, and one that was taken is not."""

import pytest

pytest.importorskip("selenium", reason="needs selenium: the extra dev")

from .page import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

#: A page that is built in steps, as gradio's: its tab comes late and loses its first clicks, its button is replaced
#: and covered for a while, and counts its clicks.
BUILT = """
<!DOCTYPE html><div class="gradio-container"></div>
<div id="cover" style="position: fixed; inset: 0; background: white"></div>
<script>
window.clicks = 0;
const box = document.querySelector(".gradio-container");
let steps = 0;
function build() {
  box.innerHTML = '<button role="tab" aria-selected="false">Chat</button><button>Ask</button>';
  const [tab, button] = box.children;
  let lost = 2;
  tab.addEventListener("click", () => { if (!lost--) tab.setAttribute("aria-selected", "true"); });
  button.addEventListener("click", () => { window.clicks += 1; button.remove(); });
  if (++steps < 4) setTimeout(build, 300);
}
setTimeout(build, 300);
setTimeout(() => document.getElementById("cover").remove(), 4000);
</script>
"""


@pytest.fixture
def page(chromium, tmp_path):
    (tmp_path / "page.html").write_text(BUILT)
    return Page(driver=chromium, url=(tmp_path / "page.html").as_uri())


def test_a_page_is_whole_before_it_is_used(page):
    assert page.driver.execute_script("return steps") == 4


def test_a_tab_is_clicked_until_it_is_open(page):
    page.tab("Chat")
    assert page.driver.execute_script("return box.children[0].getAttribute('aria-selected')") == "true"


def test_a_button_gets_one_click(page):
    """It is covered at first, and gone when it was clicked."""
    page.press("Ask")
    assert page.driver.execute_script("return [clicks, box.children.length]") == [1, 1]
    with pytest.raises(AssertionError, match="waited 1 s for nothing of the kind"):
        page.wait("nothing of the kind", lambda: False, seconds=1)
    assert page.driver.execute_script("return clicks") == 1
