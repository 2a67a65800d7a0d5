using System;

namespace MotionR1.Core
{
    /// <summary>Remembers how late the last chunks came, against a clock that starts anywhere. Allocates once.</summary>
    sealed class Lateness
    {
        // Of the last 128 chunks, 26 s at 5 a second, the latest fifth is left out: one stall in ten seconds, and the
        // chunks that queue behind it, are not worth a delay that lasts.
        const int Window = 128;
        const double Usual = 0.8;

        readonly double[] _sorted = new double[Window];
        readonly double[] _inOrder = new double[Window];
        int _num;
        int _next;

        /// <summary>How late chunks usually are at most, seconds; very early while nothing is known.</summary>
        public double UsualS => _num == 0 ? double.NegativeInfinity : _sorted[Math.Min(_num - 1, (int)(Usual * _num))];

        /// <summary>From the earliest to the usual latest, seconds.</summary>
        public double SpreadS => _num == 0 ? 0 : UsualS - _sorted[0];

        /// <summary>Takes the next chunk's.</summary>
        public void Add(double latenessS)
        {
            if (_num == Window) Remove(_inOrder[_next]);
            _inOrder[_next] = latenessS;
            _next = (_next + 1) % Window;
            int at = _num++;
            for (; at > 0 && _sorted[at - 1] > latenessS; at--) _sorted[at] = _sorted[at - 1];
            _sorted[at] = latenessS;
        }

        /// <summary>Forgets all.</summary>
        public void Clear() => (_num, _next) = (0, 0);

        void Remove(double latenessS)
        {
            int at = Array.IndexOf(_sorted, latenessS, 0, _num);
            Array.Copy(_sorted, at + 1, _sorted, at, _num - at - 1);
            _num--;
        }
    }
}
