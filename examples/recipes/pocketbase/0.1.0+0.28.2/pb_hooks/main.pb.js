/// Extends PocketBase for operation on Co-op Cloud: the first superuser comes
/// from a secret, and two commands serve backup and restore.
/// Handlers run in VMs of their own, so each loads what it needs.

// A restore that is pending is finished here, before the databases are opened.
if ($os.args.includes("serve")) {
    require(`${__hooks}/data.js`).finishRestore();
}

onBootstrap((e) => {
    e.next();
    // Without a superuser, PocketBase prints a link into its log that makes
    // whoever reads it the superuser.
    if ($os.args.includes("serve") && e.app.countRecords("_superusers") === 0) {
        const superuser = new Record(e.app.findCollectionByNameOrId("_superusers"));
        superuser.set("email", $os.getenv("ADMIN_EMAIL") || "admin@example.com");
        superuser.set("password", toString($os.readFile("/run/secrets/admin_password")).trim());
        e.app.save(superuser);
    }
});

// Restarts in place, on behalf of "pocketbase restore", which runs as another
// process. Only the container itself may ask: nothing that comes through the
// proxy has a loopback address as its peer.
routerAdd("POST", "/-/reopen", (e) => {
    if (!e.request.remoteAddr.startsWith("127.0.0.1:")) {
        throw new NotFoundError();
    }
    $app.restart();
});

$app.rootCmd.addCommand(new Command({
    use: "snapshot [remove]",
    short: "Copies the databases consistently to pb_data/snapshot",
    run: (cmd, args) => {
        const data = require(`${__hooks}/data.js`);
        data.command(() => args[0] === "remove" ? data.removeSnapshot() : data.takeSnapshot());
    },
}));

$app.rootCmd.addCommand(new Command({
    use: "restore",
    short: "Puts pb_data/snapshot in the place of the live databases",
    run: (cmd, args) => {
        const data = require(`${__hooks}/data.js`);
        data.command(data.restore);
    },
}));
