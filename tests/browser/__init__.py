"""The status page in a real browser: Chromium without a window. Asked for by POLLBROKER_TEST_BROWSER=1.

It needs Debian's packages chromium and chromium-driver, and `pip install -e '.[test,browser]'`. With
POLLBROKER_TEST_SCREENSHOTS=DIRECTORY each test leaves a picture there, to be looked at. With
POLLBROKER_TEST_AXE=axe.min.js, a file of npm's package axe-core, that looks for what keeps people from using the page.
"""
