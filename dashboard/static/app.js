// Live pages. Without this file every page works and is merely still.
// A page with data-live-from listens there; on a hint it reads itself again and
// takes over the regions marked data-live. What a person typed, opened, selected
// or focused stays as it is.
"use strict";
(() => {
  const from = document.body.dataset.liveFrom;
  const note = document.getElementById("live-note");
  const served = new Map(); // region id -> HTML as the server last wrote it
  for (const region of document.querySelectorAll("[data-live]")) served.set(region.id, region.innerHTML);

  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };

  // Copying works on https and on this machine alone; elsewhere the text can be selected.
  const showCopy = (within) => { if (navigator.clipboard) for (const b of within.querySelectorAll("[data-copy]")) b.hidden = false; };

  // --- reading the page again ---
  let timer = 0, busy = false, again = false, source = null, over = false;

  const later = (ms) => { if (!timer) timer = setTimeout(() => { timer = 0; refresh(); }, ms); };

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const url = new URL(location.href);
      url.searchParams.set("live", "1");
      url.hash = "";
      const answer = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store", redirect: "error" });
      if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the next hint or poll tries again */ }
    busy = false;
    if (again) { again = false; later(400); }
  }

  function take(fresh) {
    document.title = fresh.title;
    const token = document.querySelector("input[name=token]"), newToken = fresh.querySelector("input[name=token]");
    if (token && newToken) token.value = newToken.value;
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(region.id);
      if (!next || served.get(region.id) === next.innerHTML) continue;
      const selection = getSelection();
      if (selection && !selection.isCollapsed && region.contains(selection.anchorNode)) { later(2000); continue; }
      served.set(region.id, next.innerHTML);
      const folds = new Map([...region.querySelectorAll("details[id]")].filter((d) => d.dataset.touched).map((d) => [d.id, d.open]));
      const focus = region.contains(document.activeElement) ? address(document.activeElement) : null;
      region.replaceChildren(...next.childNodes);
      showCopy(region);
      for (const [id, open] of folds) {
        const fold = document.getElementById(id);
        if (fold) { fold.open = open; fold.dataset.touched = "1"; }
      }
      if (focus) region.querySelector(focus)?.focus({ preventScroll: true });
    }
  }

  function address(element) {
    if (element.id) return "#" + CSS.escape(element.id);
    const href = element.getAttribute("href");
    if (href) return `a[href="${CSS.escape(href)}"]`;
    const fold = element.closest("details[id]");
    return fold && element.tagName === "SUMMARY" ? `#${CSS.escape(fold.id)} > summary` : null;
  }

  document.addEventListener("click", (event) => {
    const summary = event.target.closest?.("summary");
    if (summary) summary.parentElement.dataset.touched = "1";
    const copy = event.target.closest?.("[data-copy]");
    if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => say("Copied " + copy.dataset.copy), () => say("Copying is not allowed here"));
    const number = event.target.closest?.(".lines .n"); // a line that is on the page needs no other page
    if (number && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      location.hash = number.id;
      history.replaceState(null, "", number.href);
    }
    const jump = event.target.closest?.("[data-first-error]");
    if (jump && showFirstError()) event.preventDefault();
  });

  // --- the log of a run ---
  const log = document.getElementById("log");
  const folds = log ? [...log.querySelectorAll(".fold")] : [];
  const last = folds[folds.length - 1];
  let fold = last && !last.querySelector(".state") ? last : null;
  let lines = log ? Math.max(0, ...[...log.querySelectorAll("li[value]")].slice(-1).map((l) => l.value)) : 0;
  let offset = log ? Number(log.dataset.offset || 0) : 0;
  const follow = document.getElementById("follow");
  const keep = 5000; // lines of one fold that stay on the page

  function showFirstError() {
    const line = document.getElementById("first-error");
    if (!line) return false;
    for (let d = line.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    const box = line.closest(".lines");
    box.scrollTop = line.offsetTop - box.offsetTop - box.clientHeight / 3;
    line.scrollIntoView({ block: "center" });
    line.focus({ preventScroll: true });
    return true;
  }

  // The line that the address names, in its fold, which may be closed.
  function showLine() {
    const line = /^#L\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!line) return;
    for (let d = line.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    line.scrollIntoView({ block: "center" });
  }

  const make = (tag, className, text) => {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  };

  function openFold(title, stage) {
    for (const old of log.querySelectorAll(".fold[open]")) {
      if (!old.dataset.touched && old.dataset.status !== "fail") old.open = false;
    }
    const d = make("details", "fold");
    d.id = "log-" + (log.querySelectorAll(".fold").length + 1);
    d.open = true;
    if (stage) d.dataset.stage = stage;
    const summary = make("summary");
    summary.append(make("span", "fold-title", title), make("span", "fold-count muted", "0 lines"), make("span", "stage-took"));
    const list = make("ol", "lines");
    list.tabIndex = 0;
    list.setAttribute("aria-label", "Log of " + title);
    d.append(summary, list);
    document.getElementById("no-log")?.remove();
    log.append(d);
    return d;
  }

  const upper = (s) => s.charAt(0).toUpperCase() + s.slice(1);

  function onLog(event) {
    offset = Number(event.lastEventId) || offset;
    const e = JSON.parse(event.data);
    if (e.begin) {
      fold = openFold(upper(e.begin), e.begin);
      announce(upper(e.begin) + " begins");
    } else if (e.end) {
      if (!fold || fold.dataset.stage !== e.end) fold = openFold(upper(e.end), e.end);
      fold.dataset.status = e.status;
      const mark = document.getElementById("mark-" + (e.refused ? "refused" : e.status))?.content.firstElementChild?.cloneNode(true);
      if (mark) fold.querySelector(".fold-title").after(mark);
      fold.querySelector(".stage-took").textContent = e.took || "";
      if (e.status === "fail") markFirst(fold);
      announce(`${upper(e.end)}: ${mark ? mark.textContent.trim() : e.status}${e.reason ? ", " + e.reason : ""}`);
      fold = null;
      later(200);
    }
    if (e.lines) append(e);
  }

  const attemptLine = /^=== cc-ci: attempt (\d{1,3}), /, clock = /^(\d\d:\d\d:\d\d) /;

  function logLine(text, bad) {
    const li = make("li", bad ? "bad" : ""), number = make("a", "n", String(++lines)), time = text.match(clock);
    li.value = lines;
    number.id = "L" + lines;
    number.href = `?line=${lines}#L${lines}`;
    number.tabIndex = -1;
    number.setAttribute("aria-label", "Line " + lines);
    li.append(number);
    if (time) li.append(make("time", "t", time[1]));
    li.append(time ? text.slice(time[0].length) : text);
    return li;
  }

  function append(e) {
    const attempt = e.lines.findIndex((l) => attemptLine.test(l));
    if (attempt > 0) {
      append({ lines: e.lines.slice(0, attempt), bad: (e.bad || []).filter((i) => i < attempt) });
      append({ lines: e.lines.slice(attempt), bad: (e.bad || []).filter((i) => i >= attempt).map((i) => i - attempt) });
      return;
    }
    if (attempt === 0) {
      log.append(make("h3", "attempt", "Attempt " + e.lines[0].match(attemptLine)[1]));
      fold = openFold("Preparation");
    }
    if (!fold) {
      if (e.lines.every((l) => !l.trim())) { lines += e.lines.length; return; }
      const before = log.querySelector(".fold:last-child"), stage = before?.dataset.stage;
      const ending = stage === "checks" || before?.dataset.status === "fail";
      fold = openFold(!before ? "Preparation" : ending ? "Teardown and result" : "After " + stage);
    }
    const list = fold.querySelector(".lines"), bad = new Set(e.bad || []);
    const items = e.lines.map((text, i) => logLine(text, bad.has(i)));
    list.append(...items);
    fold.dataset.total = Number(fold.dataset.total || list.querySelectorAll("li[value]").length - items.length) + items.length;
    fold.querySelector(".fold-count").textContent = fold.dataset.total + (fold.dataset.total === "1" ? " line" : " lines");
    while (list.childElementCount > keep) list.firstElementChild.remove();
    if (!follow || follow.getAttribute("aria-pressed") === "true") list.scrollTop = list.scrollHeight;
  }

  function markFirst(d) {
    if (document.getElementById("first-error")) return;
    const line = d.querySelector("li.bad") || d.querySelector("li:last-child");
    if (!line) return;
    line.id = "first-error";
    line.tabIndex = -1;
    line.classList.add("bad");
    const jump = document.getElementById("jump-error");
    if (jump) jump.hidden = false;
  }

  function announce(text) {
    const news = document.getElementById("stage-news");
    if (news) news.textContent = text;
  }

  if (log) {
    for (const list of log.querySelectorAll(".lines")) list.tabIndex = 0;
    if (follow) {
      follow.hidden = false;
      follow.addEventListener("click", () => follow.setAttribute("aria-pressed", String(follow.getAttribute("aria-pressed") !== "true")));
      log.addEventListener("wheel", (event) => { if (event.deltaY < 0) follow.setAttribute("aria-pressed", "false"); }, { passive: true });
      if (fold) { const list = fold.querySelector(".lines"); list.scrollTop = list.scrollHeight; }
    }
    if (location.hash === "#first-error") showFirstError();
    showLine();
    addEventListener("hashchange", showLine);
  }

  // --- listening ---
  function listen() {
    if (!from || source || over || document.hidden) return;
    source = new EventSource(log ? `${from}?offset=${offset}` : from);
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("changed", () => later(150));
    source.addEventListener("log", onLog);
    source.addEventListener("end", () => {
      over = true;
      source.close();
      follow?.remove();
      say("");
      announce("The run is over");
      refresh();
    });
    source.addEventListener("error", () => {
      say("Connecting again …");
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(listen, 10000); }
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else if (from && !over) { listen(); refresh(); }
  });
  if (from) {
    listen();
    setInterval(() => { if (!document.hidden && !over) refresh(); }, 20000);
  }

  showCopy(document);

  // --- the comment box ---
  const box = document.querySelector(".write textarea");
  box?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) box.form.requestSubmit();
  });
})();
