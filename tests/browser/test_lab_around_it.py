"""What happens around an explorer in JupyterLab: night, an error, a kernel that goes."""

from tests.browser.test_same_picture import hands
from tests.explorers.test_every_explorer import make
from tests.pictures import DRAWN, differences

THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
IS = "theme => document.querySelector('.causal-explorer').dataset.theme === theme"
FAILING = """
class Failing(MaskExplorer):
    def compute(self, T, position, mask):
        if T == 9:
            raise OverflowError("nine is too much")
        return super().compute(T, position, mask)
failing = Failing()
failing"""


def test_an_explorer_goes_with_what_happens_around_it(browser, lab):
    twin = make("MaskExplorer")
    with hands(browser, lab, [FAILING, "failing"], [twin] * 2, silent=False) as (hand, second):
        page, root = hand.notebook.page, hand.root
        for theme in ("dark", "light"):
            page.evaluate(THEME, f"JupyterLab {theme.title()}")
            page.wait_for_function(IS, arg=theme)

        # An error is shown, and the next picture takes it away.
        slider, error = root.get_by_label("T, number of tokens", exact=True), root.locator(".error")
        slider.press("ArrowRight")
        hand.notebook.settle()
        assert root.get_attribute("data-state") == "error"
        assert error.text_content() == "OverflowError: nine is too much"
        slider.press("ArrowRight")
        hand.notebook.settle()
        assert (root.get_attribute("data-state"), error.text_content()) == ("ready", "")

        # Two views of one explorer do not talk each other's questions away.
        for view in (second, hand, second):
            view.root.get_by_label("T, number of tokens", exact=True).press("ArrowRight")
            hand.notebook.settle(5)

        # Who wants less motion gets one step for one press.
        page.emulate_media(reduced_motion="reduce")
        root.get_by_role("button", name="play").click()
        page.wait_for_timeout(1200)
        assert slider.input_value() == "14"

        # Without a kernel, the step that was asked for ahead is there, and what was seen; the rest
        # is not waited for in silence.
        slider.press("End")
        hand.notebook.settle()
        slider.press("ArrowLeft")
        hand.notebook.settle()
        page.evaluate("() => lab.kernel().shutdown()")
        slider.press("ArrowLeft")
        assert root.get_attribute("data-state") == "ready"
        due = twin.compute(**twin.values() | {"T": 510}).message()
        assert not differences(root.evaluate(DRAWN), due)
        slider.press("ArrowLeft")  # nobody could ask for this one
        assert root.get_attribute("data-state") == "waiting"
        slider.press("End")
        assert root.get_attribute("data-state") == "ready"
        slider.press("Home")
        error.filter(has_text="the kernel is busy or gone").wait_for(timeout=12_000)
