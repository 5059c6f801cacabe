package doctor

import (
	"context"
	"testing"

	"github.com/recipe-maintainers/cc-ci/internal/config"
)

func TestLimitsFitTheMachine(t *testing.T) {
	judge := func(capacity int, change func(*config.Limits)) string {
		l := config.Default().Limits
		change(&l)
		return said(t, Limits(l, capacity, func(context.Context) Room { return Room{Memory: 8 << 30, Disks: map[string]int64{"/data": 50 << 30}} }))
	}
	expect(t, "the defaults", judge(1, func(*config.Limits) {}), "ok       limits: they fit")
	expect(t, "off", judge(1, func(l *config.Limits) { l.FreeDisk, l.FreeMemory = "0", "0" }), "ok       limits: they fit")
	expect(t, "disk", judge(1, func(l *config.Limits) { l.FreeDisk = "90000G" }),
		"problem  limits: free_disk: limits.free_disk is 90000G, and the whole disk of /data has 50GiB: no run ever starts", "0 to turn it off")
	expect(t, "free memory", judge(1, func(l *config.Limits) { l.FreeMemory = "9G" }), "problem  limits: free_memory: ", "no run ever starts")
	expect(t, "memory", judge(1, func(l *config.Limits) { l.Memory = "900G" }), "warning  limits: memory: limits.memory is 900G for one run, and the machine has 8GiB")
	expect(t, "memory of all runs", judge(2, func(l *config.Limits) { l.Memory = "5G" }), "warning  limits: memory: limits.memory is 5G for each of 2 runs")
	expect(t, "memory that fits", judge(1, func(l *config.Limits) { l.Memory = "5G" }), "ok       limits")
	expect(t, "a container", judge(1, func(l *config.Limits) { l.ContainerMemory = "10G" }), "warning  limits: container_memory: ")
	room := RoomOf(t.Context(), t.TempDir(), "/nowhere/at/all")
	if room.Memory < 64<<20 || len(room.Disks) != 2 {
		t.Errorf("%+v", room)
	}
}
