export PATH=/tmp
export LD_PRELOAD=/tmp/x.so
