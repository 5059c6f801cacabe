/// Backup and restore of PocketBase's SQLite databases.
///
/// Copying the files of a running SQLite database gives torn copies, and
/// replacing them does nothing to the process that has them open. So a backup
/// takes copies that SQLite makes, and a restore lets the server restart and
/// swaps the files before it opens them. The mark "snapshot/.restore" makes this
/// survive a crash at any point: the next start finishes it.

const names = ["data.db", "auxiliary.db"];
const dir = $app.dataDir();
const snapshot = `${dir}/snapshot`;
const mark = `${snapshot}/.restore`;

function exists(path) {
    try {
        $os.stat(path);
        return true;
    } catch (_) {
        return false;
    }
}

module.exports = {
    // command runs the work of a console command: its error is one line and exit code 1.
    command: (work) => {
        try {
            work();
        } catch (error) {
            console.error(error.message || String(error));
            $os.exit(1);
        }
    },

    takeSnapshot: () => {
        $os.removeAll(snapshot);
        $os.mkdirAll(snapshot, 0o750);
        // The backup names the uploads' folder, so it is there before the first upload.
        $os.mkdirAll(`${dir}/storage`, 0o750);
        $os.writeFile(`${dir}/storage/.keep`, "uploads are kept here\n", 0o640);
        $app.db().newQuery(`VACUUM INTO '${snapshot}/data.db'`).execute();
        $app.auxDB().newQuery(`VACUUM INTO '${snapshot}/auxiliary.db'`).execute();
    },

    removeSnapshot: () => $os.removeAll(snapshot),

    restore: () => {
        for (const name of names) {
            if (!exists(`${snapshot}/${name}`)) {
                throw new Error(`restoring: ${snapshot}/${name} is not there`);
            }
        }
        $os.writeFile(mark, "", 0o640);
        try {
            $http.send({ method: "POST", url: "http://127.0.0.1:8090/-/reopen", timeout: 10 });
        } catch (_) {
            // The server goes away in the middle of its answer: that is the restart.
        }
        for (let i = 0; i < 300; i++) {
            try {
                if (!exists(mark) && $http.send({ url: "http://127.0.0.1:8090/api/health", timeout: 2 }).statusCode === 200) {
                    return;
                }
            } catch (_) {
                // not listening yet
            }
            sleep(100);
        }
        throw new Error("restoring: PocketBase did not come back within 30 s");
    },

    finishRestore: () => {
        if (!exists(mark)) {
            return;
        }
        for (const name of names) {
            if (!exists(`${snapshot}/${name}`)) {
                continue; // swapped before a crash
            }
            // The old write-ahead log belongs to the old file.
            $os.removeAll(`${dir}/${name}-wal`);
            $os.removeAll(`${dir}/${name}-shm`);
            $os.rename(`${snapshot}/${name}`, `${dir}/${name}`);
        }
        $os.removeAll(snapshot);
    },
};
